"""data: records -> batches on the devices. Floor 2.

Knows in which order records are read (order), how a batch of them is gathered
(source; rows on disk, remote in a bucket), which tokens are hidden (masking, by
the numbers of hashing), that batch k is a pure function of the seed and k
(pipeline; finetuning for tasks), and how a batch comes to lie on the mesh
(feed). With data.backend='numpy' neither tensorflow nor array_record is
imported. Import from the chapters: this page opens none of them.
"""
