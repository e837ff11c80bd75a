"""Tables like those of the recipe ``rossmann``, made on the spot: three shops for three months."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SHOPS = {1: ("HE", "Hessen"), 2: ("TH", "Thueringen"), 3: ("HB,NI", "Niedersachsen")}


def write_rossmann(folder: Path) -> Path:
    """Write the sales and all side tables, with gaps and text where the real ones have them.

    Returns:
        The table of the sales.
    """
    draw = np.random.default_rng(0)
    days = pd.date_range("2014-07-01", "2014-09-30")
    for name in ("weather", "googletrend"):
        (folder / name).mkdir(parents=True)
    sales = pd.MultiIndex.from_product([days[::-1], SHOPS], names=["Date", "Store"])
    frame = sales.to_frame(index=False)
    weekday = frame["Date"].dt.day_of_week
    promo = (frame["Date"].dt.day // 7 % 2).where(weekday < 5, 0)
    takings = 5000 + 1500 * promo + 300 * frame["Store"] + draw.normal(0, 300, len(frame))
    is_holiday = frame["Date"] == "2014-08-15"
    frame = pd.DataFrame(
        {
            "Store": frame["Store"],
            "DayOfWeek": weekday + 1,
            "Date": frame["Date"].dt.strftime("%Y-%m-%d"),
            "Sales": takings.astype(int).where(weekday < 6, 0),
            "Customers": 500,
            "Open": (weekday < 6).astype(int),
            "Promo": promo,
            "StateHoliday": np.where(is_holiday, "a", "0"),
            "SchoolHoliday": (frame["Date"].dt.month < 9).astype(int),
        }
    )
    frame.to_csv(folder / "train_open.csv.gz", index=False)
    pd.DataFrame(
        {
            "Store": list(SHOPS),
            "StoreType": list("cab"),
            "Assortment": list("aac"),
            "CompetitionDistance": [1270.0, 570.0, None],
            "CompetitionOpenSinceMonth": [9.0, None, 4.0],
            "CompetitionOpenSinceYear": [2008.0, None, 2014.0],
            "Promo2": [0, 1, 0],
            "Promo2SinceWeek": [None, 13.0, None],
            "Promo2SinceYear": [None, 2010.0, None],
            "PromoInterval": [None, "Jan,Apr,Jul,Oct", None],
        }
    ).to_csv(folder / "store.csv", index=False)
    states = pd.DataFrame({"Store": list(SHOPS), "State": [code for code, _ in SHOPS.values()]})
    states.to_csv(folder / "store_states.csv", index=False)
    measured = ["Max_TemperatureC", "Mean_TemperatureC", "Min_TemperatureC", "Max_Humidity"]
    measured += ["Mean_Humidity", "Min_Humidity", "Max_Wind_SpeedKm_h", "Mean_Wind_SpeedKm_h"]
    for _, name in SHOPS.values():
        numbers = draw.integers(5, 30, (len(days), len(measured)))
        weather = pd.DataFrame(numbers, columns=measured)
        weather.insert(0, "Date", days.strftime("%Y-%m-%d"))
        weather["CloudCover"] = np.where(
            draw.random(len(days)) < 0.2, None, draw.integers(1, 9, len(days))
        )
        weather["Events"] = np.where(draw.random(len(days)) < 0.5, None, "Fog-Rain")
        weather.to_csv(folder / "weather" / f"{name}.csv", sep=";", na_rep="NA", index=False)
    sundays = pd.date_range("2014-06-29", "2014-09-28", freq="7D")
    weeks = [f"{day:%Y-%m-%d} - {day + pd.Timedelta(days=6):%Y-%m-%d}" for day in sundays]
    for part in ("", "_HE", "_TH", "_NI"):
        found = {"Woche": weeks, "Dez. 2012 - Sep. 2015": draw.integers(50, 100, len(weeks))}
        table = folder / "googletrend" / f"Rossmann_DE{part}.csv"
        pd.DataFrame(found).to_csv(table, index=False)
    return folder / "train_open.csv.gz"


if __name__ == "__main__":
    write_rossmann(Path(sys.argv[1]))
