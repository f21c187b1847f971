"""Answers: tables, figures and verdicts made from records."""
