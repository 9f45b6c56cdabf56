"""The operator: it looks after one installation of Midstreamer in one namespace of Kubernetes.

At present it is a signer: it certifies the pods of the installation, and nobody else.
"""

__version__ = "0.1.0"
