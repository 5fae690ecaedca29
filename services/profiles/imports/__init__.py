"""Files of events as jobs.

A file is received in chunks (receive) and kept encrypted (spool); its rows become calls (mapping, rows, parquet), which a
process of its own takes in batches (run). The serving process starts that one, and holds it back while others are being served
(manage).
"""
