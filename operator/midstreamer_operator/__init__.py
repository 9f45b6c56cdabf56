"""The operator of one installation of Midstreamer in one namespace of Kubernetes.

The operator signs certificates for the installation's pods and clients, makes a Deployment for each
pool of agents, and makes the password of the installation's own database.
"""

__version__ = "0.1.0"
