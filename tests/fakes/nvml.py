"""A double of the module pynvml that answers as a GB10 does (``tests/data/nvml/gb10.json``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pynvml

DATA = json.loads((Path(__file__).parents[1] / "data" / "nvml" / "gb10.json").read_text())
SCENARIOS: dict[str, dict[str, Any]] = DATA["scenarios"]
SHAPES: list[dict[str, Any]] = DATA["alternate_shapes"]
_STABLE = {74: "sw_power_cap_us", 75: "sw_thermal_us", 76: "sync_boost_us"}
_MOVED = ("sw_thermal_us", "hw_thermal_us", "hw_power_brake_us")
_NOT_SUPPORTED = "NVML_ERROR_NOT_SUPPORTED"
DRIVER_580, CUDA_13_HEADER = 251, 269
"""Where the three ids of ``_MOVED`` begin; they are others in the two versions of nvml.h."""


def error(name: str) -> Exception:
    """An error of NVML by its name, of the class that pynvml raises."""
    return pynvml.NVMLError(DATA["error_codes"][name])  # type: ignore[no-any-return]


class FakeNvml:
    """The module. ``break_call`` makes one call fail, answer ``None`` or hang until released.

    ``lost`` holds the indexes of GPUs that are lost; ``field_base`` is where the counters are.
    """

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, scenario: str = "decode") -> None:
        self.scenario = SCENARIOS[scenario]
        self.answers: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.calls: list[str] = []
        self.lost: set[int] = set()
        self.field_base = DRIVER_580
        self.hanging = Event()
        self.release = Event()
        self._broken: dict[str, str] = {}
        self._hang: set[str] = set()
        for call in DATA["calls"]:
            key = self._key(call["call"], call.get("args"))
            if call["result"] == "ok":
                self.answers[key] = call["value"]
            else:
                self.errors[key] = call.get("error", _NOT_SUPPORTED)

    @staticmethod
    def _key(call: str, args: dict[str, str] | None) -> str:
        if not args or call == "nvmlDeviceGetFieldValues":
            return call
        return f"{call}:{next(iter(args.values()))}"

    def break_call(self, call: str, how: str) -> None:
        """``how``: an error's name, ``none`` or ``hang``."""
        if how == "hang":
            self._hang.add(call)
        else:
            self._broken[call] = how

    def mend(self) -> None:
        """Nothing is broken any more, and what hangs goes on."""
        self._broken.clear()
        self._hang.clear()
        self.lost.clear()
        self.release.set()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if arguments and self._index(name, arguments) in self.lost:
                raise error("NVML_ERROR_GPU_IS_LOST")
            if name in self._hang:
                self.hanging.set()
                self.release.wait(60)
            if (how := self._broken.get(name)) is not None:
                if how == "none":
                    return None
                raise error(how)
            return self._answer(name, arguments)

        return call

    @staticmethod
    def _index(name: str, arguments: tuple[Any, ...]) -> int:
        at = arguments[0]
        return at if isinstance(at, int) else int(at.removeprefix("gpu"))

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        special: dict[str, Callable[[], Any]] = {
            "nvmlDeviceGetHandleByIndex": lambda: f"gpu{arguments[0]}",
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetUtilizationRates": lambda: SimpleNamespace(
                gpu=self.scenario["gpu_util"], memory=0
            ),
            "nvmlDeviceGetPowerUsage": lambda: self.scenario["power_mw"],
            "nvmlDeviceGetTemperature": lambda: self.scenario["temp_c"],
            "nvmlDeviceGetPerformanceState": lambda: self.scenario["pstate"],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda: self.scenario["reasons"],
            "nvmlDeviceGetFieldValues": lambda: self._fields(arguments[1]),
        }
        if name in special:
            return special[name]()
        if name == "nvmlDeviceGetClockInfo":
            if arguments[1] != self.NVML_CLOCK_SM:
                raise error(_NOT_SUPPORTED)
            return self.scenario["sm_mhz"]
        key = f"{name}:NVML_CLOCK_SM" if name == "nvmlDeviceGetMaxClockInfo" else name
        if key in self.errors:
            raise error(self.errors[key])
        if key not in self.answers:
            raise AttributeError(name)
        value = self.answers[key]
        if name.endswith("RunningProcesses"):
            return [SimpleNamespace(**each) for each in value]
        return SimpleNamespace(**value) if isinstance(value, dict) else value

    def _fields(self, ids: list[int]) -> list[Any]:
        """Counters in nanoseconds, as the driver gives them; gb10.json has nvidia-smi's us."""
        names = {**_STABLE, **{self.field_base + at: name for at, name in enumerate(_MOVED)}}
        values = self.answers["nvmlDeviceGetFieldValues"]
        found = [values.get(names.get(number, "")) for number in ids]
        return [
            SimpleNamespace(
                nvmlReturn=0 if value is not None else DATA["error_codes"][_NOT_SUPPORTED],
                value=SimpleNamespace(ullVal=(value or 0) * 1000),
            )
            for value in found
        ]
