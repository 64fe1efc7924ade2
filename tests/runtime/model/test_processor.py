from pathlib import Path

from foggen_runtime.model.processor import processor_id

X86 = "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\ncpu MHz\t\t: 2000.0\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


def identify(tmp_path: Path, text: str) -> str:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return processor_id(path)


def test_what_does_not_choose_kernels_does_not_count(tmp_path: Path) -> None:
    faster = X86.replace("2000.0", "3000.0").replace("fpu avx2", "avx2  fpu")
    assert identify(tmp_path, X86) == identify(tmp_path, faster + faster)


def test_instructions_and_cores_count(tmp_path: Path) -> None:
    texts = (
        X86,
        X86.replace(" avx512_vnni", ""),
        ARM,
        ARM.replace(" asimddp", ""),
        ARM.replace("0x41", "0x51"),
        ARM.replace("0xd0b", "0xd08"),
        ARM + ARM.replace("0xd0b", "0xd05"),  # big and little cores
        "",
    )
    assert len({identify(tmp_path, text) for text in texts}) == len(texts)


def test_no_list_is_an_answer_too(tmp_path: Path) -> None:
    assert processor_id(tmp_path / "nothing") == processor_id(tmp_path / "nothing")
