"""Publishing on the Hugging Face Hub: a model with its code and card, and the demo as a Space."""

from .model_card import ModelCardDetails, ReportedEvaluation, write_model_card
from .publishing import PushSettings, push_to_hub

__all__ = ["ModelCardDetails", "PushSettings", "ReportedEvaluation", "push_to_hub", "write_model_card"]
