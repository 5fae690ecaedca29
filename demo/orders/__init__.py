"""Files of order lines as a source: UCI Online Retail as it comes, and any other with a mapping."""

from demo.orders.files import OrderLines, open_order_lines
from demo.orders.mapping import Mapping, read_mapping

__all__ = ["Mapping", "OrderLines", "open_order_lines", "read_mapping"]
