"""Pages to judge runs by: one self-contained HTML file each, which needs no network and no server.

`page` puts a run's page together, `comparison` that of several runs; `sounds`, `spectrograms`, `charts` and `codes`
make what is heard and seen, `curves` and `facts` tell of the training, `rendering` fills in the templates.
"""
