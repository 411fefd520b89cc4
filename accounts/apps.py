from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import admin_trail, schema, two_factor  # noqa: F401 - importing the schema's parts is enough

        admin_trail.connect()
        two_factor.connect()
