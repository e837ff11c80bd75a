"""The table of the recipe ``rossmann``: its columns, and what is done to it before training."""

# fmt: off
CATEGORICAL = [
    "Store", "DayOfWeek", "Year", "Month", "Day", "StateHoliday", "CompetitionMonthsOpen",
    "Promo2Weeks", "StoreType", "Assortment", "PromoInterval", "CompetitionOpenSinceYear",
    "Promo2SinceYear", "State", "Week", "Events", "Promo_fw", "Promo_bw", "StateHoliday_fw",
    "StateHoliday_bw", "SchoolHoliday_fw", "SchoolHoliday_bw", "Open_fw", "Open_bw",
    "OpenNear_fw", "OpenNear_bw",
]
WEATHER = [
    "Max_TemperatureC", "Mean_TemperatureC", "Min_TemperatureC", "Max_Humidity", "Mean_Humidity",
    "Min_Humidity", "Max_Wind_SpeedKm_h", "Mean_Wind_SpeedKm_h", "CloudCover",
]
CONTINUOUS = [
    "CompetitionDistance", *WEATHER, "trend", "trend_DE", "AfterStateHoliday",
    "BeforeStateHoliday", "Promo", "SchoolHoliday", "Dayofyear", "Elapsed",
]
STATES = {
    "BadenWuerttemberg": "BW", "Bayern": "BY", "Berlin": "BE", "Brandenburg": "BB",
    "Bremen": "HB", "Hamburg": "HH", "Hessen": "HE", "MecklenburgVorpommern": "MV",
    "Niedersachsen": "HB,NI", "NordrheinWestfalen": "NW", "RheinlandPfalz": "RP",
    "Saarland": "SL", "Sachsen": "SN", "SachsenAnhalt": "ST", "SchleswigHolstein": "SH",
    "Thueringen": "TH",
}
# fmt: on
SEARCHES = {
    "WeekOfTrend": "@date(Woche.str.slice(0, 10))",
    "trend": "`Dez. 2012 - Sep. 2015`",
}
SEARCHES_BY_STATE = {
    "WeekOfTrend": SEARCHES["WeekOfTrend"],
    "State": "State.str.slice(12)",  # Rossmann_DE_NI is NI
    "trend": SEARCHES["trend"],
}
STEPS = [
    # The date, whether it is a public holiday, and the Sunday that its week of searches begins.
    {
        "derive": {
            "Date": "@date(Date)",
            "StateHoliday": "StateHoliday.astype('str') != '0'",
            "WeekOfTrend": "Date - @days((Date.dt.day_of_week + 1) % 7)",
        }
    },
    # The shop, its federal state, the weather there, and the searches there and in all of Germany.
    {"join": {"table": "store.csv", "keys": ["Store"]}},
    {"join": {"table": "store_states.csv", "keys": ["Store"]}},
    {
        "join": {
            "table": "weather/*.csv",
            "file_column": "State",
            "steps": [
                {"derive": {"Date": "@date(Date)"}},
                {"map": {"column": "State", "values": STATES}},
            ],
            "keys": ["State", "Date"],
            "columns": [*WEATHER, "Events"],
        }
    },
    {
        "join": {
            "table": "googletrend/Rossmann_DE_*.csv",
            "file_column": "State",
            "steps": [
                {"derive": SEARCHES_BY_STATE},
                {"map": {"column": "State", "values": {"NI": "HB,NI"}, "other": "keep"}},
            ],
            "keys": ["State", "WeekOfTrend"],
            "columns": ["trend"],
        }
    },
    {
        "join": {
            "table": "googletrend/Rossmann_DE.csv",
            "steps": [{"derive": SEARCHES}],
            "keys": ["WeekOfTrend"],
            "columns": ["trend"],
            "suffix": "_DE",
        }
    },
    # For how long the shop has had a competitor, and taken part in the second promotion.
    {"date_parts": {"column": "Date"}},
    {
        "derive": {
            "CompetitionOpenSinceYear": "CompetitionOpenSinceYear.fillna(1900)",
            "CompetitionOpenSinceMonth": "CompetitionOpenSinceMonth.fillna(1)",
            "Promo2SinceYear": "Promo2SinceYear.fillna(1900)",
            "Promo2SinceWeek": "Promo2SinceWeek.fillna(1)",
            "Opened": "@ymd(CompetitionOpenSinceYear, CompetitionOpenSinceMonth, 15)",
            "CompetitionDays": "(Date - Opened).dt.days",
            "CompetitionDaysOpen": "@where(CompetitionOpenSinceYear < 1990, 0,"
            " CompetitionDays.clip(lower=0))",
            "CompetitionMonthsOpen": "CompetitionDaysOpen.clip(upper=720) // 30",
            "Promo2Age": "(Date - @iso_week(Promo2SinceYear, Promo2SinceWeek)).dt.days",
            "Promo2Days": "@where(Promo2SinceYear < 1990, 0, Promo2Age.clip(lower=0))",
            "Promo2Weeks": "Promo2Days.clip(upper=175) // 7",
        }
    },
    # Days since and until events, and how many there were in the 7 (or 2) days before and after.
    {"derive": {"OpenNear": "Open"}},
    {"elapsed": {"columns": ["Promo", "SchoolHoliday", "Open"], "date": "Date", "group": "Store"}},
    {"elapsed": {"columns": ["OpenNear"], "date": "Date", "group": "Store", "window_days": 2}},
    {"elapsed": {"columns": ["StateHoliday"], "date": "Date", "group": "State"}},
]
