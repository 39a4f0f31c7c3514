"""Side by side: Fairlead, a real dockerd and podman, on the same machine in the same run."""
