#!/usr/bin/env python
"""Django's command line for Modelport."""

import os
import sys

from django.core.management import execute_from_command_line

from portal import embedded

if __name__ == "__main__":
    embedded.load_env()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    execute_from_command_line(sys.argv)
