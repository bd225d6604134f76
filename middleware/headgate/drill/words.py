"""The words that prompts are made of: topics in several languages, names, and words that stand for each other.

Law: words only; how they become sentences is `asking`'s. Every list was written for this file.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Topic(NamedTuple):
    """What somebody may ask about: things, what is done with them, what they are like, and in which language."""

    name: str
    tongue: str
    things: tuple[str, ...]
    deeds: tuple[str, ...]
    kinds: tuple[str, ...]


def listed(text: str, sep: str | None = None) -> tuple[str, ...]:
    """Words that are written side by side, for the sake of the page."""
    return tuple(text.split(sep))


def _topic(name: str, things: str, deeds: str, kinds: str, tongue: str = "en") -> Topic:
    parted = [tuple(word.replace("_", " ") for word in words.split()) for words in (things, deeds, kinds)]
    return Topic(name, tongue, *parted)


TOPICS: tuple[Topic, ...] = (
    _topic(
        "shipping",
        "parcel pallet customs_form container carrier freight_rate warehouse dock delivery_slot return_label courier "
        "tracking_number depot lorry route manifest bill_of_lading port insurance_claim driver",
        "ship reroute delay insure unload track consolidate clear sort reject",
        "late fragile refrigerated oversized domestic cross-border damaged express undeclared",
    ),
    _topic(
        "law",
        "contract clause tenancy notice_period landlord liability court_order witness settlement appeal deposit "
        "trademark licence breach power_of_attorney will custody probate damages statute",
        "terminate enforce sign dispute waive file withdraw amend register void",
        "binding verbal disputed standard one-sided expired commercial residential implied",
    ),
    _topic(
        "medicine",
        "dose symptom side_effect blood_test rash prescription surgeon ward vaccine allergy x-ray referral fracture "
        "migraine antibiotic blood_pressure recovery_plan clinic infection bandage",
        "treat diagnose prescribe refer monitor relieve examine prevent admit discharge",
        "chronic mild acute rare painful seasonal hereditary post-operative paediatric",
    ),
    _topic(
        "programming",
        "function race_condition queue unit_test pull_request index memory_leak parser cache lock endpoint migration "
        "stack_trace config_file container schema thread_pool retry dependency regular_expression",
        "refactor debug deploy profile test mock cache lock parse deprecate",
        "flaky nested asynchronous recursive legacy thread-safe undocumented typed idempotent",
    ),
    _topic(
        "cooking",
        "sourdough oven stew garlic lentil_soup risotto pan_sauce marinade pie_crust basil yeast dumpling curry "
        "roast_chicken salad_dressing caramel broth chickpea noodle omelette",
        "bake simmer marinate season knead roast braise reheat freeze garnish",
        "crispy vegan leftover spicy gluten-free creamy overcooked seasonal smoky",
    ),
    _topic(
        "finance",
        "invoice mortgage pension index_fund interest_rate tax_return overdraft ledger balance_sheet dividend bond "
        "budget credit_score refund payroll exchange_rate deduction audit cash_flow loan",
        "refinance deduct invest reconcile forecast hedge repay audit transfer defer",
        "fixed variable overdue taxable unsecured quarterly joint illiquid deferred",
    ),
    _topic(
        "gardening",
        "tomato compost_heap hedge greenhouse slug lawn seedling pruning_saw rose_bush soil mulch aphid raised_bed "
        "drip_hose apple_tree bulb frost_cloth weed trellis herb_spiral",
        "prune water transplant sow mulch harvest fertilise graft thin weed",
        "shady perennial drought-hardy wilting potted native early compact sandy",
    ),
    _topic(
        "travel",
        "visa train_ticket hostel itinerary layover passport luggage ferry guided_tour rental_car campsite "
        "museum_pass border airport_transfer night_bus island hiking_trail travel_insurance check-in old_town",
        "book cancel rebook visit pack extend cross avoid upgrade share",
        "cheap crowded overnight scenic remote refundable family-friendly delayed rainy",
    ),
    _topic(
        "school",
        "essay fraction lesson_plan homework exam pupil textbook poem timeline quiz science_fair multiplication "
        "reading_group spelling lab_report presentation class_trip grade worksheet debate",
        "explain mark revise memorise summarise rewrite teach practise present assess",
        "difficult short creative graded bilingual weekly unfinished optional fourth-grade",
    ),
    _topic(
        "support",
        "refund_request ticket outage password_reset subscription upgrade error_code chargeback login complaint "
        "warranty onboarding_call invoice_copy trial_period data_export plan_change survey escalation handover",
        "refund escalate close apologise reset resend verify downgrade answer merge",
        "angry recurring unresolved premium duplicate urgent vague first-time billed",
    ),
    _topic(
        "energy",
        "heat_pump solar_panel meter inverter tariff insulation battery grid_connection boiler wind_turbine "
        "charging_station radiator thermostat subsidy gas_bill roof transformer peak_load certificate window",
        "install insulate charge retrofit meter replace store subsidise curtail inspect",
        "inefficient bidirectional subsidised outdated hybrid off-peak leaking rooftop smart",
    ),
    _topic(
        "hiring",
        "job_advert interview probation salary_band reference cover_letter onboarding notice shortlist contract "
        "remote_policy internship skills_matrix job_title offer headcount applicant parental_leave review training",
        "hire interview shortlist reject promote onboard advertise negotiate retain coach",
        "junior part-time remote senior overqualified temporary internal open unpaid",
    ),
    _topic(
        "chemistry",
        "catalyst titration solvent polymer acid isotope reaction_rate precipitate bond enzyme buffer distillation "
        "oxide crystal pressure_vessel spectrum electrode ligand yield salt",
        "dissolve oxidise titrate distil crystallise catalyse neutralise dilute polymerise measure",
        "volatile aqueous exothermic saturated inert reversible toxic dilute amorphous",
    ),
    _topic(
        "history",
        "treaty empire harvest siege merchant railway census revolt guild monastery cartographer coronation plague "
        "printing_press canal alliance tariff expedition chronicle parliament",
        "conquer trade abolish found besiege reform chart unite tax rebuild",
        "medieval forgotten imperial rural disputed maritime early-modern colonial secret",
    ),
    _topic(
        "games",
        "dungeon loot_table quest boss_fight card_deck dice_roll guild save_file tutorial leaderboard puzzle spell "
        "inventory matchmaking skill_tree mod achievement map respawn lore",
        "balance nerf unlock grind design speedrun roll craft patch stream",
        "legendary unfair co-op turn-based hidden hardcore cursed random overpowered",
    ),
    _topic(
        "Versand",
        "Paket Rechnung Rücksendung Lieferung Bestellung Adresse Gutschein Kundenkonto Mahnung Garantie Frist",
        "liefern prüfen stornieren umtauschen bezahlen verschicken melden",
        "verspätet beschädigt kostenlos dringend doppelt falsch neu",
        "de",
    ),
    _topic(
        "Schule",
        "Aufsatz Prüfung Gedicht Bruchrechnung Referat Klassenfahrt Zeugnis Vokabel Hausaufgabe Experiment Lehrplan",
        "erklären üben korrigieren zusammenfassen vorstellen lernen",
        "schwierig kurz verständlich ausführlich freiwillig spannend",
        "de",
    ),
    _topic(
        "entreprise",
        "facture contrat réunion budget client fournisseur devis salaire congé rapport stage bureau",
        "signer annuler rédiger négocier payer préparer vérifier",
        "urgent annuel signé tardif mensuel interne nouveau",
        "fr",
    ),
    _topic(
        "viajes",
        "billete maleta reserva vuelo playa hotel guía frontera ruta museo seguro isla",
        "reservar cancelar visitar cambiar llevar buscar",
        "barato nocturno directo tranquilo perdido lejano",
        "es",
    ),
    _topic(
        "saúde",
        "consulta receita vacina exame dor alergia remédio febre dieta sono cirurgia hospital",
        "tratar marcar evitar tomar medir esperar",
        "forte leve crônico raro urgente infantil",
        "pt",
    ),
    _topic(
        "bisnis",
        "toko pelanggan faktur gudang pemasok iklan diskon pesanan pajak laporan karyawan merek",
        "menjual mengirim membayar mencatat menawar menghitung",
        "murah baru besar terlambat lokal resmi",
        "id",
    ),
    _topic(
        "旅行",
        "切符 荷物 予約 宿 空港 地図 温泉 祭り 列車 島",
        "予約する 変更する 訪ねる 探す 歩く",
        "安い 静かな 古い 遠い 有名な",
        "ja",
    ),
    _topic(
        "生活",
        "发票 合同 快递 作业 菜谱 花园 保险 面试 药方 代码",
        "修改 解释 检查 翻译 总结 比较",
        "新的 紧急的 便宜的 复杂的 每周的",
        "zh",
    ),
)

NAMES = listed(
    "Marek Aylin Teodora Joaquin Priya Kwame Ingrid Tomasz Noor Lucia Dmitri Hana Olamide Sofia Rafael Mei "
    "Yusuf Greta Callum Amara Elif Bruno Katarina Idris Leila Pavel Nadia Oscar Chiara Farid Maren Tunde Violeta "
    "Anselm Zanele Rosalind Hugo Ishaan Petra Milo"
)
FAMILIES = listed(
    "Okafor Lindqvist Marchetti Novak Herrera Tanaka Brennan Yilmaz Dubois Sharma Castellano Petrov Achterberg "
    "Mwangi Halvorsen Kowalski Ferreira Haddad Nguyen Abernathy Schreiber Osei Vasquez Ivanova Moreau Khan Andersen "
    "Rossi Papadakis Quintero Walsh Zimmermann Adeyemi Bergstrom Cho Delgado Eriksen Fontaine Gruber Hassan"
)
FIRMS = listed(
    "North Silver Cedar Harbour Bright Iron Blue Summit Clear Oak Falcon River Granite Amber Swift Golden Pine Coral "
    "Atlas Meadow Stone Polar Vista Lumen Quarry Juniper Beacon Delta Orchard Copper"
)
TRADES = listed(
    "field Logistics|gate Foods|line Legal|works Energy|point Health|bridge Capital|port Travel|leaf Gardens|mark "
    "Labs|stone Schools|wave Media|crest Outdoor|path Robotics|well Pharma|cross Retail|light Solar|ridge Homes|ford "
    "Textiles|hill Dental|view Insurance|spring Water|shore Tours|forge Tools|mill Bakery",
    "|",
)
PLACES = listed(
    "Lyon Kraków Osaka Nairobi Porto Hamburg Denver Pune Leeds Quito Tallinn Busan Oran Perth Malmö Cusco Ghent "
    "Izmir Accra Halifax Turin Cebu Omaha Graz Tampere Rosario Utrecht Danang Windhoek Bergen"
)

SAME: dict[str, tuple[str, ...]] = {
    "explain": ("describe", "spell out", "walk me through"),
    "describe": ("explain", "outline"),
    "write": ("draft", "compose", "produce"),
    "draft": ("write", "put together"),
    "list": ("name", "enumerate", "give"),
    "give": ("provide", "show"),
    "how": ("in what way", "by what means"),
    "why": ("for what reason", "how come"),
    "should": ("ought to", "must"),
    "best": ("right", "most sensible"),
    "before": ("prior to", "ahead of"),
    "after": ("following", "once there is"),
    "without": ("lacking", "with no"),
    "compare": ("contrast", "weigh up"),
    "problem": ("issue", "difficulty"),
    "short": ("brief", "concise"),
    "answer": ("reply", "respond"),
    "example": ("instance", "sample"),
    "steps": ("stages", "actions"),
    "small": ("little", "minor"),
    "customer": ("client", "buyer"),
    "several": ("a few", "some"),
    "new": ("fresh", "recent"),
    "costs": ("expenses", "charges"),
    "mistakes": ("errors", "slips"),
    "between": ("among", "of"),
    "important": ("relevant", "essential"),
    "help": ("support", "assist"),
    "the": ("this", "that"),
    "a": ("one", "some"),
    "und": ("sowie",),
    "wie": ("auf welche Weise",),
    "pour": ("afin de",),
    "cómo": ("de qué manera",),
}
"""Words that may stand for each other when a sentence is said anew."""


def person(random: Random) -> str:
    """A person's name."""
    return f"{NAMES[int(random.random() * len(NAMES))]} {FAMILIES[int(random.random() * len(FAMILIES))]}"


def firm(random: Random) -> str:
    """A company's name.

    >>> firm(Random(1)) == firm(Random(1)) and " " in firm(Random(1))
    True
    """
    return FIRMS[int(random.random() * len(FIRMS))] + TRADES[int(random.random() * len(TRADES))]


def reworded(random: Random, text: str) -> str:
    """The same said a little otherwise: one to three words change places, fall away or are said by others.

    >>> reworded(Random(3), "Explain how a carrier should reroute the late parcel before noon") != ""
    True
    """
    words = text.split(" ")
    for _ in range(1 + int(random.random() * 3)):
        at = int(random.random() * len(words))
        others = SAME.get(words[at].lower())
        if others is not None:
            words[at] = others[int(random.random() * len(others))]
        elif at + 1 < len(words) and random.random() < 0.5:
            words[at], words[at + 1] = words[at + 1], words[at]
        elif len(words) > 4:
            del words[at]
    return " ".join(words)
