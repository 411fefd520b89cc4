"""Log lines as JSON, for those who collect them: LOG_FORMAT=json."""

import logging
from datetime import UTC, datetime

import orjson


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message; a call's own fields, request_id among them; a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        shown |= getattr(record, "call", {})
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(shown, default=str).decode()
