"""What schemathesis must be told to send: the tus protocol's chunks are plain bytes."""

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
