"""Cluster jobs: a JobSet for GKE, a script for Cloud TPU VMs, a batch script for Slurm."""
