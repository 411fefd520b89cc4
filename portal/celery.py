"""The Celery app, its queues, and the beat schedule in code (UTC)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("modelport")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 600, "socket_timeout": 10, "socket_connect_timeout": 3},
    timezone="UTC",
    beat_schedule={
        "deployments.sweep": {"task": "deployments.sweep", "schedule": 5.0, "options": {"expires": 5}},
        "deployments.forget_old": {"task": "deployments.forget_old", "schedule": 600.0, "options": {"expires": 600}},
        "billing.sweep": {"task": "billing.sweep", "schedule": 10.0, "options": {"expires": 10}},
        "billing.alert": {"task": "billing.alert", "schedule": 15.0, "options": {"expires": 15}},
        "billing.seal": {"task": "billing.seal", "schedule": 30.0, "options": {"expires": 30}},
        "billing.roll_up": {"task": "billing.roll_up", "schedule": 5.0, "options": {"expires": 5}},
        "billing.make_months": {"task": "billing.make_months", "schedule": 3600.0, "options": {"expires": 3600}},
        "billing.close_months": {"task": "billing.close_months", "schedule": 3600.0, "options": {"expires": 3600}},
        "billing.mail_invoices": {"task": "billing.mail_invoices", "schedule": 60.0, "options": {"expires": 60}},
        "gateway.forget_old": {"task": "gateway.forget_old", "schedule": 3600.0, "options": {"expires": 3600}},
        "playground.forget_old": {"task": "playground.forget_old", "schedule": 3600.0, "options": {"expires": 3600}},
        "catalog.sweep_uploads": {"task": "catalog.sweep_uploads", "schedule": 15.0, "options": {"expires": 15}},
        "catalog.forget_uploads": {"task": "catalog.forget_uploads", "schedule": 600.0, "options": {"expires": 600}},
        "deployments.sweep_validations": {
            "task": "deployments.sweep_validations",
            "schedule": 5.0,
            "options": {"expires": 5},
        },
        "deployments.forget_validations": {
            "task": "deployments.forget_validations",
            "schedule": 86400.0,
            "options": {"expires": 3600},
        },
        "catalog.sweep_imports": {"task": "catalog.sweep_imports", "schedule": 5.0, "options": {"expires": 5}},
        "catalog.forget_weights": {"task": "catalog.forget_weights", "schedule": 600.0, "options": {"expires": 600}},
        "catalog.forget_changes": {"task": "catalog.forget_changes", "schedule": 3600.0, "options": {"expires": 3600}},
        "portal.heartbeat": {"task": "portal.heartbeat", "schedule": 5.0, "options": {"expires": 10}},
    },
)
app.autodiscover_tasks()
app.autodiscover_tasks(["catalog.uploads", "deployments.validation"])
