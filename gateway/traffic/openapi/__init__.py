"""OpenAPI documents: calls are held against them, and products are made from them.

Source: https://spec.openapis.org/oas/v3.0.4.html, https://spec.openapis.org/oas/v3.1.1.html
"""
