"""Owns segments: versioned conditions over traits and features, the shipped RFM and life-cycle segments, and who is in each.

Answers how many a condition would hold, who is in a segment and since when, and why. Every change of membership is an
event in the log.
"""
