from typing import Any

from django.core.management.base import BaseCommand

from accounts.demo import make_demo


class Command(BaseCommand):
    help = "Make the demo team with an owner and an API key, and print its login once; do nothing if it exists."

    def handle(self, *args: Any, **options: Any) -> None:
        demo = make_demo()
        if demo is None:
            self.stderr.write("The demo team is there already; issue_key and changepassword make new secrets for it.")
            return
        self.stdout.write(f"email: {demo.email}\npassword: {demo.password}\nkey: {demo.key}")
