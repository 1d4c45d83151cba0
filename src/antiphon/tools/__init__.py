"""Commands: what a user can ask for, and who carries it out.

A function of the operator's own takes from here `ToolFailed` and `ToolContext`, an HTTP endpoint `verify`.
"""

from antiphon.tools.call import ToolContext, ToolFailed, verify

__all__ = ["ToolContext", "ToolFailed", "verify"]
