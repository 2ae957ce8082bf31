"""Where arrays lie and which processes share a run. Floor 0.

Knows the mesh and one table from parameter path to its axes (mesh), how the
processes of a run find each other and act as one (processes), and what chips
can do, with GPUs to compile for (chips). It knows names and shapes, not what a
parameter does. Import from the chapters: this page opens none of them.
"""
