"""data: from records to batches on the devices. Floor 2.

The room decides in which order records are read (order), gathers the records of
a batch (source; rows for local files, remote for buckets), hides tokens
(masking and hashing), makes batch k from the seed and k alone (pipeline, and
finetuning for tasks), and lays batches on the mesh (feed). With
data.backend='numpy' neither tensorflow nor array_record is imported. Import
from the chapters: this page imports none of them.
"""
