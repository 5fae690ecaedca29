"""Owns surveys, their answers, and cases of unhappy customers. Comments are personal: kept sealed, shown unsealed.

Answers NPS, CSAT and CES with 95 % intervals, overall and by segment, and which cases are open and overdue.
"""
