"""The command `midstreamer-k8s`, which acts on an installation with the rights of its user."""
