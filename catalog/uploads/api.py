"""/api/v1/weights/uploads: the tus protocol's requests that carry no body. PATCH is in stream.py, beside Django."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.http import http_date
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import audit
from accounts.drf import actor_of, team_of
from accounts.problems import status_title
from catalog.uploads import protocol, receiving
from catalog.uploads.errors import Refused
from catalog.uploads.models import Upload
from catalog.uploads.receiving import Wanted
from catalog.uploads.stream import ROOT

_VERSION = OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True, enum=[protocol.VERSION])
_LENGTH = OpenApiParameter("Upload-Length", int, OpenApiParameter.HEADER, required=True)
_METADATA = OpenApiParameter(
    "Upload-Metadata",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="`weights` (the entry's name), `filename`, and `sha256` where it is known; each value in base64.",
)


class UploadSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    draft = serializers.UUIDField()
    weights = serializers.CharField()
    filename = serializers.CharField()
    length = serializers.IntegerField()
    offset = serializers.IntegerField(help_text="Bytes that are on the portal's disk for certain.")
    state = serializers.CharField()
    reason = serializers.CharField()
    url = serializers.CharField()
    expires_at = serializers.DateTimeField()


class RefusingView(APIView):
    """Refused, said as RFC 9457 does."""

    def handle_exception(self, exc: Exception) -> Response:
        if not isinstance(exc, Refused):
            return super().handle_exception(exc)
        body = {"type": "about:blank", "title": status_title(exc.status), "status": exc.status, "detail": str(exc)}
        return Response(body, exc.status, headers=exc.headers, content_type="application/problem+json")


class TusView(RefusingView):
    """What every answer of the protocol carries, and what every request but OPTIONS must."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in {"OPTIONS", "GET"}:
            protocol.read_version(_lower(request))
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer["Tus-Resumable"] = protocol.VERSION
        answer["Cache-Control"] = "no-store"
        return answer  # type: ignore[no-any-return]

    def get_permissions(self) -> Any:
        return [AllowAny()] if self.request.method == "OPTIONS" else super().get_permissions()

    @extend_schema(exclude=True)
    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # type: ignore[override]
        headers = {
            "Tus-Version": protocol.VERSION,
            "Tus-Extension": protocol.EXTENSIONS,
            "Tus-Max-Size": str(settings.UPLOADS_LARGEST),
            "Tus-Checksum-Algorithm": ",".join(protocol.DIGEST_BYTES),
        }
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers)


class UploadList(TusView):
    @extend_schema(
        operation_id="upload_create", request=None, responses={201: None}, parameters=[_VERSION, _LENGTH, _METADATA]
    )
    def post(self, request: Request) -> Response:
        """Begin an upload (tus creation). Its address is in `Location`; send the bytes there with PATCH."""
        headers = _lower(request)
        length = protocol.read_length(headers, largest=settings.UPLOADS_LARGEST)
        said = protocol.read_metadata(headers)
        wanted = Wanted(
            draft=said.get("weights", ""),
            filename=said.get("filename", ""),
            length=length,
            sha256=said.get("sha256", "").lower(),
            metadata=headers.get("upload-metadata", ""),
        )
        upload = receiving.begin(team_of(request), wanted, actor=actor_of(request))
        headers = {
            "Location": address(upload),
            "Upload-Expires": http_date(upload.expires_at.timestamp()),
            "Modelport-Draft": str(upload.draft_id),
        }
        return Response(status=status.HTTP_201_CREATED, headers=headers)


class UploadDetail(TusView):
    @extend_schema(operation_id="upload_offset", responses={200: None}, parameters=[_VERSION])
    def head(self, request: Request, pk: UUID) -> Response:
        """How many bytes of it are here for certain, in `Upload-Offset`."""
        upload = receiving.find(team_of(request), pk)
        headers = {
            "Upload-Offset": str(upload.offset),
            "Upload-Length": str(upload.length),
            "Upload-Metadata": upload.metadata,
        }
        if upload.state == Upload.State.RECEIVING:
            headers["Upload-Expires"] = http_date(upload.expires_at.timestamp())
        return Response(status=status.HTTP_200_OK, headers=headers)

    @extend_schema(operation_id="upload_retrieve", responses=UploadSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        """The same as JSON."""
        return Response(as_json(receiving.find(team_of(request), pk)))

    @extend_schema(operation_id="upload_delete", responses={204: None}, parameters=[_VERSION])
    def delete(self, request: Request, pk: UUID) -> Response:
        """Give the upload up (tus termination): its bytes are removed at once."""
        team = team_of(request)
        upload = receiving.find(team, pk)
        receiving.end(upload, "The upload was given up.")
        audit.record(team, actor=actor_of(request), verb="gave up the upload", subject=upload.filename)
        return Response(status=status.HTTP_204_NO_CONTENT)


def address(upload: Upload) -> str:
    """A path without a host: it is right behind any proxy."""
    return f"{ROOT}/{upload.pk}"


def as_json(upload: Upload) -> dict[str, Any]:
    return {
        "id": str(upload.pk),
        "draft": str(upload.draft_id),
        "weights": upload.draft.name,
        "filename": upload.filename,
        "length": upload.length,
        "offset": upload.offset,
        "state": upload.state,
        "reason": upload.reason,
        "url": address(upload),
        "expires_at": upload.expires_at.isoformat(),
    }


def _lower(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
