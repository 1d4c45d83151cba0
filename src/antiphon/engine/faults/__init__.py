"""A Gemini Live that misbehaves as a file says: `antiphon engine --faults FILE`.

`script` reads the file, `injector` decides for one connection, `connections` stands between gRPC and service.
"""


class ScriptError(Exception):
    """The file cannot be used; the text is a sentence that says where and why."""
