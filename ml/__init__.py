"""What is shared by training and serving: features, the model bundle, its registry, reasons and metrics.

Services import everything here but `ml.training`.
"""
