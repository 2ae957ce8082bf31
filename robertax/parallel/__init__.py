"""Where arrays lie, and which processes share a run. Floor 0.

The room has the mesh and the table that maps parameter paths to axes (mesh),
connects the processes of a run (processes), and knows what chips can do, with
GPUs to compile for (chips). It knows names and shapes, not what parameters do.
Import from the chapters: this page imports none of them.
"""
