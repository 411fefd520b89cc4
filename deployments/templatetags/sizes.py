"""How templates write sizes of memory."""

from django import template

from deployments import sizing

register = template.Library()


@register.filter
def gib(count: int) -> str:
    return sizing.gib(count)
