"""Write docs/licences.md: the licence of every locked package, as the installed package's metadata names it."""

from importlib.metadata import metadata

from requirements.lock import DEV, HERE, TORCH_CPU, pins

PAGE = HERE.parent / "docs" / "licences.md"
ABOUT = """\
<!-- Written by `make lock`. -->
# Licences of the locked packages

`make set-up` installs these packages to develop Rosetta. None is part of it. Three have a copyleft licence: certifi,
hypothesis and pathspec, by the Mozilla Public License, which asks that changes of their own files stay under it. The
wheels of numpy, scipy, paddlepaddle and torch also hold GCC's runtime libraries: GPL with the exception that lets any
program use them, and of these libquadmath LGPL. Where PyTorch's build with CUDA is installed instead, from
`requirements/torch-cuda.lock`, most of NVIDIA's libraries come under terms of NVIDIA's own, which are no open-source
licence, the others under Apache-2.0, and Triton under MIT.
"""


def licence(name: str) -> str:
    """The licence in the words of the metadata: an SPDX expression or, in older ones, a line, or classifiers."""
    about = metadata(name)
    line = about["License-Expression"] or about["License"] or ""
    classifiers = [text.split(" :: ")[-1] for text in about.get_all("Classifier", []) if text.startswith("License")]
    # Some packages have the whole text where its name should be; namex has nothing but the file.
    return line if line and "\n" not in line else ", ".join(classifiers) or f"its file {about['License-File']}"


def main() -> None:
    lines = [f"| {name} | {version} | {licence(name)} |" for name, version in sorted(pins(DEV, TORCH_CPU).items())]
    PAGE.write_text("\n".join([ABOUT, "| package | version | licence |", "| --- | --- | --- |", *lines, ""]), "utf-8")


if __name__ == "__main__":
    main()
