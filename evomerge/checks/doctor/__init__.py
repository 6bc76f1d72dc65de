"""What is installed, what the machine has, what works with what; nothing is changed."""

from evomerge.checks.doctor.examination import Examination, examine
from evomerge.checks.doctor.packages import Package

__all__ = ["Examination", "Package", "examine"]
