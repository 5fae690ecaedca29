"""evaluation: did it work?

Owns experiments with their assignments and exposures, evaluations of models, and the record of what was promoted; of
the log it keeps who ordered or converted when, and every recorded score. Answers: which variant a customer gets and
what the experiment showed; how good a model version was once the outcomes are in; which version is champion, who said
so and why; whether a new version of a service does worse than the old one.
"""
