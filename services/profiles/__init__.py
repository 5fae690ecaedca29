"""Owns the event log and all that is known of customers: who they are, what they did, what can be computed from it.

It answers: was this event taken (Ingest), what became of it (ReceiptBook), what was refused (ListRejections), what is not as
it was planned (Plans), who is this (ResolveProfiles, GetProfile, BatchGetProfiles, ListProfiles), what is known of them
(GetPortrait, ListEvents), what do the features say at an instant (ComputeFeatures), how fresh is all that (GetFreshness), and
it hands the log out as Parquet (ExportLog). Personal data is kept only here, and only sealed under a key per person (Seal,
Unseal).
"""
