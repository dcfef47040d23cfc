"""Train the weights of `mealkit_tiny_text` that come with mealkit, on docstrings of Python itself.

    python recipes/train_mealkit_tiny_text.py --output .

Two pieces of a docstring, each without some of its words, are to find each other among those of 256
docstrings (InfoNCE: van den Oord et al. 2018, arXiv:1807.03748). No label is read. The tokenizer is
trained on the same texts; the weights are stored in half precision.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional, utils

from mealkit.backbones.tiny_text import NUM_TOKENS, TinyTextNet

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def read_docstrings(most: int | None) -> list[str]:
    """Answer with the docstrings of the standard library, each once."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    own = [file for file in files if not {"site-packages", "lib2to3"} & set(file.parts)]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found: set[str] = set()
    for file in own[:most]:
        try:
            nodes = ast.walk(ast.parse(file.read_bytes()))
        except (SyntaxError, ValueError):  # some files of the tests are broken on purpose
            continue
        found |= {ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)}
    return sorted(found - {""})


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Learn pieces of words, lower-cased, as BERT's are."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=NUM_TOKENS, special_tokens=MARKS, limit_alphabet=100, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    form = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(**form, special_tokens=ends)
    return tokenizer


def views(ids: list[Tensor], rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Answer with some 30 tokens in a row of each text, of which three in five are kept."""
    rows = []
    for own in ids:
        start = int(torch.randint(max(1, len(own) - 30), (), generator=rng))
        part = own[start : start + 30]
        kept = part[torch.rand(len(part), generator=rng) < 0.6]
        rows.append(functional.pad(kept if len(kept) else part[:1], (1, 0), value=2))
    rows = [functional.pad(row, (0, 1), value=3) for row in rows]
    padded = utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, (padded > 0).long()


def main(
    *, output: str, num_steps: int = 200, batch_size: int = 256, most: int | None = None
) -> None:
    """Train tokenizer and net, and write both."""
    torch.manual_seed(0)
    rng, texts = torch.Generator().manual_seed(0), read_docstrings(most)
    tokenizer = train_tokenizer(texts)
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    ids = [torch.tensor(one.ids) for one in encoded if len(one.ids) >= 6]
    weights = torch.tensor([float(len(own)) for own in ids]) ** 0.75
    net = TinyTextNet().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=num_steps)
    for step in range(num_steps):
        drawn = [ids[row] for row in torch.multinomial(weights, batch_size, True, generator=rng)]
        tokens, mask = views([*drawn, *drawn], rng)
        shares = mask[:, :, None] / mask.sum(1)[:, None, None]
        one, other = functional.normalize((net(tokens, mask) * shares).sum(1)).chunk(2)
        likeness, right = one @ other.T / 0.05, torch.arange(batch_size)
        loss = functional.cross_entropy(likeness, right) + functional.cross_entropy(
            likeness.T, right
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        if step % 20 == 0 or step + 1 == num_steps:
            print(f"step {step}: loss {loss.item():.3f}")
    stem = Path(output) / "mealkit_tiny_text.v1"
    stem.with_suffix(".v1.json").write_text(tokenizer.to_str(), encoding="utf-8")
    halves = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    save_file(halves, stem.with_suffix(".v1.safetensors"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="folder for tokenizer and weights")
    parser.add_argument("--quick", action="store_true", help="three steps on some docstrings")
    given = parser.parse_args()
    if given.quick:
        with tempfile.TemporaryDirectory() as folder:
            main(output=folder, num_steps=3, batch_size=16, most=400)
    else:
        main(output=given.output)
