"""What the project says to models, as data files.

- texts/        one Markdown file per text, with strict `{{variables}}`: templates.render
- constraints/  one TOML file per vocabulary, category -> positive phrases: lexicon.load_lexicon
"""

from prompts.lexicon import Constraint, Lexicon, load_lexicon
from prompts.templates import digest, names, render

__all__ = ["Constraint", "Lexicon", "digest", "load_lexicon", "names", "render"]
