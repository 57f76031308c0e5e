"""From the name of a pod, a container or a process to the interfaces that lead to it."""
