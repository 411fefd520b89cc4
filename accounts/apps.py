from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import admin_trail, two_factor

        admin_trail.connect()
        two_factor.connect()
