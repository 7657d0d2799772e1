"""Makes types.json: the JSON schemas of the openai package's types for the bodies of answers.
usage: python make.py > types.json     (needs openai)"""
import json
import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion


def bare(v):
    """Without descriptions."""
    if isinstance(v, dict):
        return {k: bare(x) for k, x in v.items() if k not in ("description", "title") or not isinstance(x, str)}
    return [bare(x) for x in v] if isinstance(v, list) else v


print(json.dumps({"openai": openai.__version__, "text_completion": bare(Completion.model_json_schema()),
                  "chat.completion": bare(ChatCompletion.model_json_schema())}, indent=1, sort_keys=True))
