"""An OpenID Connect provider at the edge of our world: discovery, a code with PKCE, signed tokens; a real socket."""

import base64
import hashlib
import secrets
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes import openai_upstream

CLIENT_ID, CLIENT_SECRET = "modelport", "a-client-secret"


@dataclass
class OidcProvider:
    """`person` is who sits before it and says yes at once."""

    base_url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _tokens: set[str] = field(default_factory=set)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def issuer(self) -> str:
        return self.base_url.removesuffix("/v1")

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/.well-known/openid-configuration", self._configuration)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/userinfo", self._userinfo)

    async def _configuration(self, _request: web.Request) -> web.Response:
        places = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        found = {f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in places.items()}
        found |= {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
        return web.json_response(found | {"token_endpoint_auth_methods_supported": ["client_secret_post"]})

    async def _jwks(self, _request: web.Request) -> web.Response:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return web.json_response({"keys": [key | {"kid": "1", "alg": "RS256", "use": "sig"}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        if asked["client_id"] != CLIENT_ID or asked["code_challenge_method"] != "S256":
            raise ValueError("an unknown client, or no PKCE")
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{back}")

    async def _token(self, request: web.Request) -> web.Response:
        given = await request.post()
        asked = self._codes.pop(str(given["code"]))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(given["code_verifier"]).encode()).digest())
        if challenge.decode().rstrip("=") != asked["code_challenge"] or given["client_secret"] != CLIENT_SECRET:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = self.person | {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 60}
        token = secrets.token_urlsafe(8)
        self._tokens.add(token)
        signed = jwt.encode(claims, self._key, "RS256", {"kid": "1"})
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 60, "id_token": signed})

    async def _userinfo(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"].removeprefix("Bearer ") not in self._tokens:
            raise web.HTTPUnauthorized
        return web.json_response(self.person)


def running() -> AbstractContextManager[OidcProvider]:
    return openai_upstream.served(OidcProvider())
