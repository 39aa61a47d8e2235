"""A translation fitted to a corpus, judged on held-out sources, and put into a model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fr_lib.corpus import TEACHERS, Corpus, load_corpus
from fr_lib.errors import ArtefactError, GateFailed, say
from fr_lib.evaluate import failed_clauses, make_translation
from fr_lib.release.publish import _alone, _put
from fr_lib.release.registry import TRANSLATION_DESCRIPTION, registry_row
from fr_lib.release.ship import provenance
from fr_lib.release.translation import export_translation, translation_card, translation_id
from fr_lib.runs import ANOTHER, plain


def publish_translations(
    corpus_file: str | Path, teachers: Sequence[str] | None, model_dir: str | Path, **how: bool
) -> Iterator[str]:
    """Put the translations of several teachers into a model folder; yield a line for each.

    Parameters
    ----------
    corpus_file : path-like
    teachers : sequence of str or None
        None for both of chapter 08.
    model_dir, how
        As in :func:`publish_translation`, which also says what is raised. An unknown teacher is
        refused before anything is written.
    """
    names = list(dict.fromkeys(teachers or ANOTHER))
    for name in names:
        translation_id(name)
    # Once: what the first one writes is a change of the checkout.
    corpus, made_by = load_corpus(corpus_file), provenance()
    for name in names:
        yield publish_translation(corpus, name, model_dir, made_by, **how)


def publish_translation(
    corpus: Corpus,
    teacher: str,
    model_dir: str | Path,
    made_by: Mapping[str, Any],
    *,
    dry_run: bool = False,
    sign: bool = False,
) -> str:
    """Fit what reads a teacher's scores off rows of VMAF v0.6.1, and put it into a model folder.

    Parameters
    ----------
    corpus : Corpus
        As :func:`fr_lib.evaluate.make_translation` takes it.
    teacher : str
    made_by : mapping
        Versions, platform, git revision.
    model_dir, dry_run, sign
        As in :func:`publish`.

    Returns
    -------
    str
        One line that says what was published where, or the difference.

    Raises
    ------
    InputError
        For an unknown teacher, or a corpus without its scores.
    GateFailed
        If neither the corrected map nor the map alone passes. Nothing is changed.
    """
    model_id = translation_id(teacher)
    if corpus.synthetic:
        raise ArtefactError(say(corpus.name, "made-up rows", "rows of real clips", "make some"))
    model, found = make_translation(corpus, teacher)
    if failed := failed_clauses(found["gate"]):
        names = ", ".join(clause["name"] for clause in failed)
        raise GateFailed(say(model_id, f"failed: {names}", "every clause", "nothing was changed"))
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / f"{model_id}.onnx"
        facts = export_translation(model, teacher, path)
        data = path.read_bytes()
    card = translation_card(facts, plain(found), corpus, made_by)
    described = TRANSLATION_DESCRIPTION.format(title=TEACHERS[teacher].title)
    row = registry_row(card, description=described)
    with nullcontext() if dry_run else _alone(Path(model_dir)):
        changed = _put(Path(model_dir), row, data, card, dry_run, sign)
    return changed or (
        f"{model_id} ({found['method']}, RMSE {found['summary']['rmse']:.3f} against "
        f"{found['map']['rmse']:.3f} of the map on held-out sources, sha256 {row['sha256'][:12]}) "
        f"is in {model_dir}"
    )
