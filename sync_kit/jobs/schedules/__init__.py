"""Schedules: jobs that are sent every so often, or by a cron expression. See README.md here."""

from sync_kit.jobs.schedules.facade import BlockingSchedules, Schedules
from sync_kit.jobs.schedules.schedule import Schedule

__all__ = ["BlockingSchedules", "Schedule", "Schedules"]
