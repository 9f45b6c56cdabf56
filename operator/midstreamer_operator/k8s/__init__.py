"""The command `midstreamer-k8s`: what a person does about an installation, as himself."""
