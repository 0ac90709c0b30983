"""The routing table of all products and who may use them, compiled from a World."""

from gateway.catalogue.compiled import Catalogue
from gateway.catalogue.route import Route
from gateway.catalogue.subscriptions import Terms
from gateway.catalogue.table import WrongMethod
from gateway.catalogue.template import RESERVED, TemplateError

__all__ = ["RESERVED", "Catalogue", "Route", "TemplateError", "Terms", "WrongMethod"]
