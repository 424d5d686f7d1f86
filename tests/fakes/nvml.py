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
_FIELDS = {
    pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP: "sw_power_cap_us",
    pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN: "sw_thermal_us",
    pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN: "hw_thermal_us",
    pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN: "hw_power_brake_us",
}


def error(name: str) -> Exception:
    """An error of NVML by its name, of the class that pynvml raises."""
    return pynvml.NVMLError(DATA["error_codes"][name])  # type: ignore[no-any-return]


class FakeNvml:
    """The module. ``break_call`` makes one call fail, answer ``None`` or hang until released."""

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, scenario: str = "decode") -> None:
        self.scenario = SCENARIOS[scenario]
        self.answers: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.calls: list[str] = []
        self.hanging = Event()
        self.release = Event()
        self._broken: dict[str, str] = {}
        self._hang: set[str] = set()
        for call in DATA["calls"]:
            key = self._key(call["call"], call.get("args"))
            if call["result"] == "ok":
                self.answers[key] = call["value"]
            else:
                self.errors[key] = call.get("error", "NVML_ERROR_NOT_SUPPORTED")

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

    def __getattr__(self, name: str) -> Any:
        if name.startswith("NVML_FI_DEV_CLOCKS"):
            return getattr(pynvml, name)
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if name in self._hang:
                self.hanging.set()
                self.release.wait(60)
            if (how := self._broken.get(name)) is not None:
                if how == "none":
                    return None
                raise error(how)
            return self._answer(name, arguments)

        return call

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        special: dict[str, Callable[[], Any]] = {
            "nvmlDeviceGetHandleByIndex": lambda: "handle",
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
                raise error("NVML_ERROR_NOT_SUPPORTED")
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
        values = self.answers["nvmlDeviceGetFieldValues"]
        out = []
        for number in ids:
            name = _FIELDS[number]
            found = values.get(name)
            out.append(
                SimpleNamespace(
                    nvmlReturn=0 if found is not None else 3,
                    value=SimpleNamespace(ullVal=found or 0),
                )
            )
        return out
