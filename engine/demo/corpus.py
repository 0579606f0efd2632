#!/usr/bin/env python3
"""Generates what the demo model learns and what it is examined on; plain Python, no packages.

Every exchange is a Turn: a question, the accepted answers, the skill, and a *key* that says what is being asked. For
skills with an open range (sums, decimal units, dates) the key is the content: the operands, the date. For closed ones
(a times table, the glossary, small talk) the fact itself has to be learned, so the key is the question's wording. A
hash of the key alone decides on which side of the split a Turn lies. Training text drops every Turn of the examined
side, examinations take nothing else; `check` walks through the training text again and proves it.

Text becomes tokens here too (bpe.py), so that the trainer reads arrays only:
  train.bin  per dialogue: u16 count, then count u16 tokens; bit 15 set: this token carries loss (assistant's words)
  eval.bin   per question: u16 skill, u16 prompt length, prompt tokens, u16 answers, then per answer u16 length, tokens

  corpus.py tokenizer            learn the merges, write tokenizer.json
  corpus.py train N OUT          write N dialogues for the trainer
  corpus.py finish N OUT         likewise, with larger shares of what is hard, for the end of the training
  corpus.py eval                 write eval.jsonl
  corpus.py dev OUT              write other questions of the examined side, to watch a run with
  corpus.py long IN OUT          put the questions of IN behind some 400 tokens of other talk
  corpus.py evalbin IN OUT       tokenize an eval file for train.c
  corpus.py check N              prove that no question of eval.jsonl is in the first N dialogues of either text
  corpus.py show                 print some dialogues
"""

import array
import hashlib
import itertools
import json
import os
import random
import re
import sys
from typing import NamedTuple

import bpe
import glossary as g

HERE = os.path.dirname(os.path.abspath(__file__))
TRAIN_SEED = 20260
FINISH_SEED = 20261
EVAL_SEED = 777
EVAL_QUESTIONS = 400
DEV_SEED = 778  # other questions of the examined side, to watch a training run with
DEV_QUESTIONS = 800
SKILL_QUESTIONS_MIN = 12
LONG_CHAT_TOKENS, LONG_CHAT_TOKENS_MAX = 400, 470
HELD_OUT_PERCENT = 7
COUNT_MAX = 120  # the longest answer then still fits the context of 512 tokens


class Turn(NamedTuple):
    question: str
    answers: tuple  # the first is the one in the training text
    skill: str
    key: tuple
    free_case: bool = True  # False: the answer copies words of the question, so their case stays
    inside: tuple = ()  # keys of other questions that the answer gives away


def wording(text):
    """The key of a closed question: its words, whatever the case and punctuation."""
    return ("text", re.sub(r"[^a-z0-9+*/<>=-]+", " ", text.lower()).strip())


def held_out(key):
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % 100 < HELD_OUT_PERCENT


# Arithmetic. The answer repeats the sum in one fixed form before it gives the result: the many
# phrasings become one notation first, and only then the model has to calculate.

ADD_QUESTIONS = [
    "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=", "{a} + {b} = ?", "{a}+{b}=?", "What is {a} + {b}?",
    "What is {a}+{b}?", "What is {a} plus {b}?", "{a} plus {b}", "What's {a} + {b}?", "How much is {a} + {b}?",
    "How much is {a} plus {b}?", "Add {a} and {b}.", "Add {b} to {a}.", "Sum of {a} and {b}",
    "What is the sum of {a} and {b}?", "Compute {a} + {b}.", "Calculate {a} + {b}.", "Calculate {a}+{b}",
    "Please compute {a} + {b}.", "Please add {a} and {b}.", "Can you add {a} and {b}?", "Tell me {a} + {b}.",
    "What do you get when you add {a} and {b}?", "Give me the sum of {a} and {b}.", "What does {a} + {b} make?",
    "Solve {a} + {b}.", "I have {a} apples and buy {b} more. How many apples do I have?", "{a} and {b} together?",
    "Work out {a} + {b}.", "What is {a} and {b} added together?",
]
SUB_QUESTIONS = [
    "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=", "{a} - {b} = ?", "{a}-{b}=?", "What is {a} - {b}?",
    "What is {a}-{b}?", "What is {a} minus {b}?", "{a} minus {b}", "What's {a} - {b}?", "How much is {a} - {b}?",
    "How much is {a} minus {b}?", "Subtract {b} from {a}.", "Take {b} away from {a}.", "Compute {a} - {b}.",
    "What is the difference of {a} and {b}?", "Calculate {a} - {b}.", "Calculate {a}-{b}", "Tell me {a} - {b}.",
    "Please compute {a} - {b}.", "Please subtract {b} from {a}.", "Can you subtract {b} from {a}?",
    "What is {a} less {b}?", "Solve {a} - {b}.", "What is left of {a} after taking {b}?", "Work out {a} - {b}.",
    "I have {a} apples and give away {b}. How many apples are left?",
]
MUL_QUESTIONS = [
    "{a} * {b}", "{a}*{b}", "{a} * {b} =", "{a}*{b}=?", "{a} x {b}", "{a} x {b} =", "What is {a} * {b}?",
    "What is {a} times {b}?", "{a} times {b}", "What's {a} times {b}?", "How much is {a} times {b}?",
    "Multiply {a} by {b}.", "Multiply {a} and {b}.", "What is the product of {a} and {b}?", "Compute {a} * {b}.",
    "Calculate {a} * {b}.", "What is {a} multiplied by {b}?", "Please compute {a} times {b}.", "Solve {a} * {b}.",
    "Tell me {a} * {b}.", "How much is {a} * {b}?", "Can you multiply {a} by {b}?", "Work out {a} * {b}.",
]
DIV_QUESTIONS = [
    "{a} / {b}", "{a}/{b}", "{a} / {b} =", "What is {a} / {b}?", "What is {a} divided by {b}?",
    "{a} divided by {b}", "Divide {a} by {b}.", "How much is {a} / {b}?", "Compute {a} / {b}.", "{a}/{b}=?",
    "Calculate {a} / {b}.", "What's {a} divided by {b}?", "How often does {b} fit into {a}?", "Solve {a} / {b}.",
    "Please divide {a} by {b}.", "Can you divide {a} by {b}?", "How much is {a} divided by {b}?",
]


def number(rng, digits_max=3):
    digits = rng.choices((1, 2, 3), (2, 4, 6))[0] if digits_max == 3 else rng.choices((1, 2), (1, 3))[0]
    return rng.randrange(10 ** digits) if digits > 1 else rng.randrange(10)


def sum_key(a, b):
    return ("sum", min(a, b), max(a, b))


def addition(rng):
    a, b = number(rng), number(rng)
    return Turn(rng.choice(ADD_QUESTIONS).format(a=a, b=b), (f"{a} + {b} = {a + b}",), "addition", sum_key(a, b))


def subtraction(rng):
    a, b = number(rng), number(rng)
    if a < b and (b > 99 or rng.random() < 0.7):
        a, b = b, a
    return Turn(rng.choice(SUB_QUESTIONS).format(a=a, b=b), (f"{a} - {b} = {a - b}",), "subtraction",
                ("difference", a, b))


def multiplication(rng):
    a, b = rng.randrange(0, 13), rng.randrange(0, 13)
    question = rng.choice(MUL_QUESTIONS).format(a=a, b=b)
    return Turn(question, (f"{a} * {b} = {a * b}",), "multiplication", wording(question))


def division(rng):
    b, result = rng.randrange(1, 13), rng.randrange(0, 13)
    question = rng.choice(DIV_QUESTIONS).format(a=b * result, b=b)
    return Turn(question, (f"{b * result} / {b} = {result}",), "division", wording(question))


def comparison(rng):
    if rng.random() < 0.4:
        a = number(rng)
        phrasing = rng.choice(["Is {a} even or odd?", "Is {a} odd or even?", "Even or odd: {a}", "{a}: even or odd?",
                               "Tell me if {a} is even or odd."])
        return Turn(phrasing.format(a=a), (f"{a} is {'odd' if a % 2 else 'even'}.",), "comparison", ("parity", a))
    a, b = number(rng), number(rng)
    while a == b:
        b = number(rng)
    if rng.random() < 0.5:
        phrasing, word, result = rng.choice(["Which is larger, {a} or {b}?", "Which number is bigger, {a} or {b}?",
                                             "What is larger: {a} or {b}?", "Which is more, {a} or {b}?",
                                             "Is {a} or {b} larger?"]), "larger", max(a, b)
    else:
        phrasing, word, result = rng.choice(["Which is smaller, {a} or {b}?", "Which number is less, {a} or {b}?",
                                             "What is smaller: {a} or {b}?", "Which is less, {a} or {b}?",
                                             "Is {a} or {b} smaller?"]), "smaller", min(a, b)
    return Turn(phrasing.format(a=a, b=b), (f"{result} is {word}.",), "comparison",
                ("compare", min(a, b), max(a, b)))


def counting(rng):
    """The one long answer: something to stream, to cancel and to batch."""
    span = rng.choice((rng.randrange(2, 12), rng.randrange(2, 30), rng.randrange(2, 101)))
    first = 1 if rng.random() < 0.5 else rng.randrange(0, 100)
    if first == 1 and rng.random() < 0.6:
        phrasing = rng.choice(["Count to {b}.", "Please count to {b}.", "Can you count to {b}?", "Count up to {b}"])
    else:
        phrasing = rng.choice(["Count from {a} to {b}.", "List the numbers from {a} to {b}.", "Count {a} to {b}",
                               "Can you count from {a} to {b}?", "Numbers from {a} to {b}"])
    last = min(first + span - 1, COUNT_MAX)
    return Turn(phrasing.format(a=first, b=last), (", ".join(map(str, range(first, last + 1))),), "counting",
                ("count", first, last))


def three_terms(rng):
    """A sum of three, worked from the left: the model writes down what it cannot hold in its head."""
    a, b, c = number(rng, 2), number(rng, 2), number(rng, 2)
    phrasing = rng.choice(["{a} + {b} + {c}", "{a}+{b}+{c}", "What is {a} + {b} + {c}?", "{a} + {b} + {c} =",
                           "Add {a}, {b} and {c}.", "Compute {a} + {b} + {c}.", "What is the sum of {a}, {b} and {c}?",
                           "{a} plus {b} plus {c}", "Calculate {a} + {b} + {c}.", "How much is {a} + {b} + {c}?"])
    return Turn(phrasing.format(a=a, b=b, c=c), (f"{a} + {b} + {c} = {a + b} + {c} = {a + b + c}",), "three terms",
                ("three", *sorted((a, b, c))), inside=(sum_key(a, b), sum_key(a + b, c)))


def too_large(rng):
    """Honesty about range: operands beyond 999, and tables beyond 12, are declined, not guessed."""
    if rng.random() < 0.5:
        a, b = rng.randrange(1000, 10 ** rng.randrange(4, 8)), rng.randrange(10 ** rng.randrange(1, 6))
        phrasings, answer = rng.choice((ADD_QUESTIONS, SUB_QUESTIONS)), g.TOO_LARGE_ANSWER
    else:
        a, b = rng.randrange(13, rng.choice((30, 100, 1000))), rng.randrange(rng.choice((13, 30, 100, 1000)))
        phrasings, answer = MUL_QUESTIONS, g.TABLE_ANSWER
    if rng.random() < 0.5:
        a, b = b, a
    question = rng.choice(phrasings).format(a=a, b=b)
    return Turn(question, (answer,), "limits", wording(question))


# Units. Powers of ten work for any number, so the number is held out; 60, 24, 7, 12 and 1024 are small tables.

DECIMAL_UNITS = [
    ("km", "m", 1000, "kilometers", "meters"), ("m", "cm", 100, "meters", "centimeters"),
    ("cm", "mm", 10, "centimeters", "millimeters"), ("kg", "g", 1000, "kilograms", "grams"),
    ("t", "kg", 1000, "tons", "kilograms"), ("L", "mL", 1000, "liters", "milliliters"),
    ("s", "ms", 1000, "seconds", "milliseconds"),
]
TABLE_UNITS = [
    ("h", "min", 60, "hours", "minutes", 24), ("min", "s", 60, "minutes", "seconds", 30),
    ("days", "h", 24, "days", "hours", 10), ("weeks", "days", 7, "weeks", "days", 12),
    ("years", "months", 12, "years", "months", 10), ("GiB", "MiB", 1024, "gibibytes", "mebibytes", 16),
    ("MiB", "KiB", 1024, "mebibytes", "kibibytes", 16), ("TiB", "GiB", 1024, "tebibytes", "gibibytes", 16),
]
UNIT_QUESTIONS = [
    "How many {to} is {n} {fr}?", "How many {to} are {n} {fr}?", "How many {to} are in {n} {fr}?",
    "Convert {n} {fr} to {to}.", "Convert {n} {fr} into {to}.", "{n} {fr} in {to}", "{n} {fr} to {to}",
    "What is {n} {fr} in {to}?", "What is {n} {fr} in {to}?", "How much is {n} {fr} in {to}?", "{n} {fr} = ? {to}",
    "Express {n} {fr} in {to}.", "Please convert {n} {fr} to {to}.", "Can you convert {n} {fr} to {to}?",
    "Turn {n} {fr} into {to}.", "{n} {fr} in {to}?", "Tell me {n} {fr} in {to}.",
]


def unit_conversion(rng):
    kind = rng.random()
    if kind < 0.12:
        celsius = rng.randrange(-20, 101, 5)
        fahrenheit = celsius * 9 // 5 + 32
        question = rng.choice(UNIT_QUESTIONS[3:]).format(n=celsius, fr=rng.choice(("C", "degrees Celsius", "Celsius")),
                                                         to=rng.choice(("F", "Fahrenheit")))
        return Turn(question, (f"{celsius} C = {fahrenheit} F",), "units", wording(question))
    if kind < 0.56:
        small, large, factor, small_name, large_name = rng.choice(DECIMAL_UNITS)
        n = rng.choice((rng.randrange(1, 21), rng.randrange(1, 201)))
        key = ("units", small, large, n)
    else:
        small, large, factor, small_name, large_name, n_max = rng.choice(TABLE_UNITS)
        n = rng.randrange(2 if small in ("days", "weeks", "years") else 1, n_max + 1)
        key = None
    fr, to, amount, result = (small, small_name), (large, large_name), n, n * factor
    if rng.random() < 0.4:
        fr, to, amount, result = to, fr, result, amount
    question = rng.choice(UNIT_QUESTIONS).format(n=amount, fr=rng.choice(fr), to=rng.choice(to))
    if rng.random() < 0.1:
        question = question.replace(f"{amount} {fr[0]} ", f"{amount}{fr[0]} ")
    return Turn(question, (f"{amount} {fr[0]} = {result} {to[0]}",), "units", key or wording(question))


# Days and dates.

WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
WEEK_SPAN_MAX = 20


def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def weekday(rng):
    """Spans are a closed table: the model learns it by heart and does not count on for a pair it has not seen."""
    day = rng.randrange(7)
    n = rng.choice((1, 1, rng.randrange(2, WEEK_SPAN_MAX + 1), rng.randrange(2, WEEK_SPAN_MAX + 1)))
    after = rng.random() < 0.6
    name, result = WEEKDAYS[day], WEEKDAYS[(day + n if after else day - n) % 7]
    side = "after" if after else "before"
    if n == 1:
        question = rng.choice(
            [f"What day comes {side} {name}?", f"Which day is {side} {name}?", f"What is the day {side} {name}?",
             f"Which day comes {side} {name}?", f"The day {side} {name}?", f"What day is it the day {side} {name}?",
             f"Tell me the day {side} {name}.",
             f"Today is {name}. What day {'is tomorrow' if after else 'was yesterday'}?",
             f"If today is {name}, what day {'is it tomorrow' if after else 'was it yesterday'}?",
             f"Name the day {side} {name}.",
             f"{name} is today, which day {'is tomorrow' if after else 'was yesterday'}?"])
        return Turn(question, (f"The day {side} {name} is {result}.",), "weekdays", wording(question))
    question = rng.choice(
        [f"What day is {n} days {side} {name}?", f"Which day is {n} days {side} {name}?", f"{n} days {side} {name}?",
         f"What day is it {n} days {side} {name}?", f"Which weekday comes {n} days {side} {name}?",
         f"Tell me which day is {n} days {side} {name}.",
         f"Today is {name}. What day {'is it in ' + str(n) + ' days' if after else 'was it ' + str(n) + ' days ago'}?"])
    return Turn(question, (f"{n} days {side} {name} is {result}.",), "weekdays", wording(question),
                inside=(("weekday", day, n, after),))


def date(rng):
    """A date some days on or back. Steps over the end of February depend on the year and are left out."""
    while True:
        month, n, after = rng.randrange(12), rng.choice((1, 1, 2, 3, 7)), rng.random() < 0.65
        day = rng.randrange(1, MONTH_DAYS[month] + 1)
        if rng.random() < 0.3:  # month ends are where it gets interesting
            day = MONTH_DAYS[month] - rng.randrange(n) if after else 1 + rng.randrange(n)
        if (after and month == 1 and day + n > 28) or (not after and month == 2 and day - n < 1):
            continue
        break
    to_month, to_day = month, day + n if after else day - n
    if to_day > MONTH_DAYS[month]:
        to_month, to_day = (month + 1) % 12, to_day - MONTH_DAYS[month]
    elif to_day < 1:
        to_month = (month - 1) % 12
        to_day += MONTH_DAYS[to_month]
    name, result, side = f"{MONTHS[month]} {day}", f"{MONTHS[to_month]} {to_day}", "after" if after else "before"
    span = "the day" if n == 1 else "one week" if n == 7 and rng.random() < 0.5 else f"{n} days"
    question = rng.choice(
        [f"What date is {span} {side} {name}?", f"Which date is {span} {side} {name}?",
         f"What is {span} {side} {name}?", f"What comes {span} {side} {name}?",
         f"{span.capitalize()} {side} {name}?", f"Tell me the date {span} {side} {name}.",
         f"Give me the date {span} {side} {name}.", f"Which day is {span} {side} {name}?"])
    lead = "The day" if n == 1 else f"{n} days"
    return Turn(question, (f"{lead} {side} {name} is {result}.",), "dates", ("date", month, day, n, after))


def calendar(rng):
    kind = rng.random()
    if kind < 0.35:
        year = rng.randrange(1600, 2400)
        question = rng.choice(["Is {y} a leap year?", "Was {y} a leap year?", "{y}: leap year or not?",
                               "Is the year {y} a leap year?", "Tell me if {y} is a leap year.", "Leap year {y}?",
                               "Will {y} be a leap year?", "Does {y} have 366 days?"]).format(y=year)
        answer = f"{year} is a leap year." if is_leap(year) else f"{year} is not a leap year."
        key = ("year", year) if year % 100 else ("year", "century")
    elif kind < 0.5:
        year = rng.randrange(1600, 2400)
        question = rng.choice(["How many days does February {y} have?", "How many days are in February {y}?",
                               "Days in February {y}?", "How long is February {y}?"]).format(y=year)
        answer = f"February {year} has {29 if is_leap(year) else 28} days."
        key = ("year", year) if year % 100 else ("year", "century")
    elif kind < 0.75:
        month = rng.choice([m for m in range(12) if m != 1])
        question = rng.choice(["How many days does {m} have?", "How many days are in {m}?", "Days in {m}?",
                               "How many days are there in {m}?", "How long is {m}?", "Number of days in {m}?",
                               "How many days has {m}?", "Tell me how many days {m} has.", "Does {m} have 31 days?",
                               "Does {m} have 30 or 31 days?", "How many days in {m}?"]).format(m=MONTHS[month])
        answer, key = f"{MONTHS[month]} has {MONTH_DAYS[month]} days.", None
    elif kind < 0.9:
        month, after = rng.randrange(12), rng.random() < 0.6
        side = "after" if after else "before"
        question = rng.choice(["What month comes {s} {m}?", "Which month is {s} {m}?", "Which month comes {s} {m}?",
                               "What is the month {s} {m}?", "The month {s} {m}?", "Name the month {s} {m}.",
                               "Tell me the month {s} {m}."]).format(s=side, m=MONTHS[month])
        answer, key = f"The month {side} {MONTHS[month]} is {MONTHS[(month + (1 if after else -1)) % 12]}.", None
    else:
        facts = [("days", "week", "A week has 7 days."), ("days", "year", "A year has 365 days, a leap year 366."),
                 ("months", "year", "A year has 12 months."), ("hours", "day", "A day has 24 hours."),
                 ("minutes", "hour", "An hour has 60 minutes."), ("seconds", "minute", "A minute has 60 seconds."),
                 ("weeks", "year", "A year has about 52 weeks.")]
        if rng.random() < 0.35:
            what, names = rng.choice((("days of the week", WEEKDAYS), ("months of the year", MONTHS)))
            question = rng.choice(["List the {a}.", "Name the {a}.", "What are the {a}?", "Tell me the {a}.",
                                   "Which are the {a}?", "Give me the {a}.", "Say the {a}."]).format(a=what)
            answer = f"The {what} are {', '.join(names[:-1])} and {names[-1]}."
            return Turn(question, (answer,), "calendar", wording(question))
        what, whole, answer = rng.choice(facts)
        the = "an" if whole == "hour" else "a"
        question = rng.choice(["How many {a} are in {t} {b}?", "How many {a} does {t} {b} have?", "{a} in {t} {b}?",
                               "How many {a} are there in {t} {b}?", "How many {a} in {t} {b}?",
                               "Number of {a} in {t} {b}?", "Tell me how many {a} {t} {b} has."]).format(
                                   a=what, b=whole, t=the)
        question, key = question[0].upper() + question[1:], None
    return Turn(question, (answer,), "calendar", key or wording(question))


# Words: the glossary, small talk, and what the model must admit not to know.

def invented(rng, syllables):
    return "".join(rng.choices(g.SYLLABLES, k=syllables))


def person(rng):
    """Half of the names are invented: the model has to copy letters, not to pick from a list."""
    return rng.choice(g.NAMES) if rng.random() < 0.5 else invented(rng, rng.randrange(1, 4)).capitalize()


def repetition(rng):
    words = [invented(rng, rng.randrange(1, 4)) if rng.random() < 0.5 else rng.choice(g.THINGS)
             for _ in range(rng.randrange(1, 5))]
    text = " ".join(words)
    return Turn(rng.choice(g.REPEAT_QUESTIONS).format(t=text), (text,), "repetition", ("repeat", text), free_case=False)


def vocabulary(rng):
    term, article, definition = rng.choice(g.TERMS)
    with_article = f"{article} {term}" if article else term
    plural = term if not article or term.endswith("s") else term + "s"
    question = rng.choice(g.DEFINITION_QUESTIONS).format(X=term, AX=with_article, Xs=plural)
    question = question[0].upper() + question[1:] if question[0] != term[0] else question
    return Turn(question, (definition,), "vocabulary", wording(question))


def small_talk(rng):
    intent = rng.choice(list(g.SMALL_TALK))
    answers, phrasings = g.SMALL_TALK[intent]
    question = rng.choice(phrasings)
    if question[-1] not in ".?":
        question += rng.choice(("", "!", "."))
    start = rng.choice(g.CHATTY_STARTS)
    question = start + (question[0].lower() + question[1:] if start and question[0] != "I" else question)
    return Turn(question, tuple(answers), "small talk", wording(question))


def unknown(rng):
    word = invented(rng, rng.randrange(2, 4))
    question = rng.choice(g.UNKNOWN_QUESTIONS if rng.random() < 0.85 else g.UNKNOWN_PLAIN).format(
        country=rng.choice(g.COUNTRIES), city=rng.choice(g.CITIES), city2=rng.choice(g.CITIES),
        name=rng.choice(g.NAMES), thing=rng.choice(g.THINGS), word=word,
        word2=invented(rng, 2))
    return Turn(question, (g.UNKNOWN_ANSWER,), "unknown", wording(question))


# Small JSON answers: results with at most two digits per operand, and objects copied from the question.

JSON_ASKS = ["Answer in JSON: {q}", "JSON: {q}", "{q} in JSON", "{q} as JSON", "Give the result as JSON: {q}",
             "Reply in JSON: {q}", "Return JSON: {q}", "In JSON, {q}", "Respond with JSON: {q}",
             "As a JSON object: {q}", "Please answer in JSON: {q}"]
FIELD_WORDS = ["name", "city", "user", "color", "model", "status", "team", "owner"]
FIELD_NUMBERS = ["age", "count", "port", "replicas", "size", "year", "limit", "score"]
COLORS = "red blue green black white yellow orange brown".split()


def json_sum(rng, asks):
    a, b = number(rng, 2), number(rng, 2)
    if rng.random() < 0.6:
        result, key, sign, word = a + b, sum_key(a, b), "+", "plus"
    else:
        a, b = max(a, b), min(a, b)
        result, key, sign, word = a - b, ("difference", a, b), "-", "minus"
    sum_text = rng.choice((f"{a} {sign} {b}", f"{a}{sign}{b}", f"{a} {word} {b}", f"what is {a} {sign} {b}?"))
    return rng.choice(asks).format(q=sum_text), result, key


def json_answer(rng):
    kind = rng.random()
    if kind < 0.5:
        question, result, key = json_sum(rng, JSON_ASKS)
        return Turn(question, (json.dumps({"result": result}),), "json", key)
    if kind < 0.65:
        values = [rng.randrange(100) for _ in range(rng.randrange(2, 5))]
        listed = ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
        question = rng.choice(["Give me a JSON list of {v}.", "JSON array of {v}", "Make a JSON list with {v}.",
                               "Return the numbers {v} as a JSON list.", "Write {v} as a JSON array."]).format(v=listed)
        return Turn(question, (json.dumps(values),), "json", wording(question))
    word_key, number_key = rng.choice(FIELD_WORDS), rng.choice(FIELD_NUMBERS)
    word = rng.choice({"city": g.CITIES, "color": COLORS}[word_key]) if word_key in ("city", "color") else person(rng)
    value = rng.randrange(1, 1000)
    question = rng.choice(["Return JSON with {k} {w} and {n} {v}.", "JSON with {k} {w} and {n} {v}",
                           "Make a JSON object with {k} {w} and {n} {v}.", "Give me JSON: {k} {w}, {n} {v}",
                           "Write JSON with the fields {k} {w} and {n} {v}.", "As JSON: {k} is {w}, {n} is {v}",
                           "I need a JSON object: {k} = {w}, {n} = {v}",
                           "The {k} is {w} and the {n} is {v}. Answer in JSON."]).format(
                               k=word_key, w=word, n=number_key, v=value)
    return Turn(question, (json.dumps({word_key: word, number_key: value}),), "json",
                ("object", word, value), free_case=False)


# Dialogues: one turn, or two where the second leans on the first; sometimes a system message.

SKILLS = [(addition, 22), (subtraction, 19), (multiplication, 6), (division, 3), (comparison, 3),
          (unit_conversion, 9), (weekday, 6), (date, 6), (calendar, 4), (vocabulary, 9), (small_talk, 4),
          (json_answer, 8), (unknown, 5), (too_large, 1.5), (counting, 1.2),
          (three_terms, 2.5), (repetition, 1.5)]
# The last part of the training leans on what the first part has not yet learned.
FINISH_SHARES = {addition: 15, subtraction: 20, comparison: 7, weekday: 14, date: 9, repetition: 4, counting: 2.5}
SKILLS_FINISH = [(skill, FINISH_SHARES.get(skill, share)) for skill, share in SKILLS]
TWO_TURN_PERCENT = 8


def casual(rng, turn):
    """People do not type like a phrase book: lower case, shouting, missing marks, a word before."""
    text, kind = turn.question, rng.random()
    if not turn.free_case:
        return text.rstrip(".") if kind < 0.2 else text
    if kind < 0.2:
        text = text.lower()
    elif kind < 0.3:
        text = text.rstrip("?.!")
    elif kind < 0.42:
        text = text.lower().rstrip("?.!")
    elif kind < 0.45:
        text = text.upper()
    elif kind < 0.49 and turn.skill not in ("small talk", "unknown"):
        start = rng.choice(("please, ", "hey, ", "ok, ", "and ", "so, ", "hello, ", "hi! ", "now "))
        text = start + text[0].lower() + text[1:]
    elif kind < 0.51:
        text = text + rng.choice((" ", "\n", "  "))
    return text


def first_sum(rng, a, b):
    question = rng.choice(ADD_QUESTIONS[:28]).format(a=a, b=b)
    return Turn(question, (f"{a} + {b} = {a + b}",), "two turns", sum_key(a, b))


def chain(rng):
    """Two turns where the second cannot be understood alone. Both keys decide about the split."""
    kind = rng.random()
    if kind < 0.3:
        name = person(rng)
        told = rng.choice(["My name is {n}.", "I am {n}.", "Hello, I am {n}.", "Hi, my name is {n}.", "Call me {n}."])
        first = Turn(told.format(n=name), (f"Nice to meet you, {name}!",), "two turns", ("name", name), False)
        asked = rng.choice(["What is my name?", "Who am I?", "Do you remember my name?", "What's my name?",
                            "Tell me my name.", "Say my name."])
        return first, Turn(asked, (f"Your name is {name}.",), "two turns", ("name", name))
    if kind < 0.7:
        a, b, c = number(rng, 2), number(rng, 2), number(rng, 2)
        first = first_sum(rng, a, b)
        if rng.random() < 0.5 or c > a + b:
            asked = rng.choice(["Add {c}.", "Add {c} to that.", "Plus {c}?", "And plus {c}?", "Now add {c}.", "+ {c}"])
            return first, Turn(asked.format(c=c), (f"{a + b} + {c} = {a + b + c}",), "two turns", sum_key(a + b, c))
        asked = rng.choice(["Subtract {c}.", "Take away {c}.", "Minus {c}?", "And minus {c}?", "Now subtract {c}.",
                            "- {c}"])
        return first, Turn(asked.format(c=c), (f"{a + b} - {c} = {a + b - c}",), "two turns", ("difference", a + b, c))
    if kind < 0.85:
        a, b, c, d = (number(rng, 2) for _ in range(4))
        first = first_sum(rng, a, b)
        asked = rng.choice(["And {c} + {d}?", "And {c} and {d}?", "What about {c} + {d}?", "Now {c} + {d}."])
        return first, Turn(asked.format(c=c, d=d), (f"{c} + {d} = {c + d}",), "two turns", sum_key(c, d))
    a, b = number(rng, 2), number(rng, 2)
    first = first_sum(rng, a, b)
    asked = rng.choice(["In JSON?", "Now in JSON.", "As JSON, please.", "Say that in JSON.", "Give me that as JSON."])
    return first, Turn(asked, (json.dumps({"result": a + b}),), "two turns", sum_key(a, b))


def draw_turn(rng, skills):
    skill = rng.choices([s for s, _ in skills], [w for _, w in skills])[0]
    return skill(rng)


def with_system(rng, turns):
    """Some conversations begin with a system message; two kinds of it change the answer."""
    kind = rng.random()
    if len(turns) == 1 and kind < 0.012:
        question, result, key = json_sum(rng, ["{q}", "What is {q}?", "Compute {q}"])
        question = question.replace("What is what is", "What is").replace("Compute what is", "Compute")
        question = question.replace("??", "?")
        return rng.choice(g.SYSTEMS_JSON), (Turn(question, (json.dumps({"result": result}),), "json", key),)
    if len(turns) == 1 and kind < 0.024:
        question, result, key = json_sum(rng, ["{q}", "{q} = ?"])
        return rng.choice(g.SYSTEMS_NUMBER), (Turn(question.replace("?", "").strip(), (str(result),), "json", key),)
    return (rng.choice(g.SYSTEMS) if kind < 0.15 else None), turns


def draw_dialogue(rng, skills=SKILLS):
    """Gives (system or None, turns)."""
    kind = rng.random() * 100
    if kind < TWO_TURN_PERCENT * 0.6:
        turns = chain(rng)
    elif kind < TWO_TURN_PERCENT:
        turns = (draw_turn(rng, skills), draw_turn(rng, skills))
    else:
        turns = (draw_turn(rng, skills),)
    return with_system(rng, turns)


def training_dialogues(count, seed=TRAIN_SEED, skills=SKILLS):
    """Yields (messages as (role, text), keys of the turns); no turn is on the examined side."""
    rng = random.Random(seed)
    while count:
        system, turns = draw_dialogue(rng, skills)
        keys = [key for t in turns for key in (t.key, wording(t.question), *t.inside)]
        if any(map(held_out, keys)):
            continue
        messages = [("system", system)] if system else []
        for t in turns:
            messages += [("user", casual(rng, t)), ("assistant", t.answers[0])]
        yield messages, keys
        count -= 1


def examination(count, seed):
    """(question, key of its last turn) `count` times: distinct, skills in proportion, all on the examined side."""
    rng = random.Random(seed)
    seen, questions = set(), []
    floor = {s: 0 for s in ("counting", "repetition", "three terms")}  # even small shares get some questions
    while len(questions) < count:
        system, turns = draw_dialogue(rng)
        last = turns[-1]
        skill = "two turns" if len(turns) > 1 else last.skill
        if not held_out(last.key):
            continue
        small = [s for s in floor if floor[s] < SKILL_QUESTIONS_MIN]
        if len(questions) > count * 0.85 and small and skill not in small:
            continue
        messages = [{"role": "system", "content": system}] if system else []
        for t in turns[:-1]:
            messages += [{"role": "user", "content": t.question}, {"role": "assistant", "content": t.answers[0]}]
        messages.append({"role": "user", "content": casual(rng, last)})
        if repr(messages) in seen:
            continue
        seen.add(repr(messages))
        floor[skill] = floor.get(skill, 0) + 1
        questions.append(({"messages": messages, "expect": list(last.answers), "skill": skill}, last.key))
    return sorted(questions, key=lambda q: q[0]["skill"])


# Commands.

def chatml(messages, open_answer=False):
    """The text and, piece by piece, whether it carries loss."""
    pieces = []
    for role, text in messages:
        pieces.append((f"<|im_start|>{role}\n", False))
        pieces.append((text + "<|im_end|>", role == "assistant"))
        pieces.append(("\n", False))
    if open_answer:
        pieces.append(("<|im_start|>assistant\n", False))
    return pieces


def write_train(dialogues, path):
    tokenizer, out, tokens = bpe.Tokenizer.load(), array.array("H"), 0
    count = 0
    for messages, _ in dialogues:
        ids = []
        for text, carries_loss in chatml(messages):
            ids += [i | 0x8000 if carries_loss else i for i in tokenizer.encode(text)]
        out.append(len(ids))
        out.extend(ids)
        tokens += len(ids)
        count += 1
    with open(path, "wb") as f:
        out.tofile(f)
    print(f"{count} dialogues, {tokens} tokens, {tokens / count:.1f} a dialogue")


def write_examination(path, count, seed):
    with open(path, "w") as f:
        for q, _ in examination(count, seed):
            f.write(json.dumps(q, separators=(",", ":")) + "\n")


def write_long(source, path):
    """Questions at the end of a long chat: shows whether the context length is meant seriously."""
    tokenizer, talk = bpe.Tokenizer.load(), training_dialogues(1 << 30)
    with open(source) as f, open(path, "w") as out:
        for q in map(json.loads, f):
            before, length = [], len(tokenizer.encode(json.dumps(q)))
            while length < LONG_CHAT_TOKENS:
                messages, _ = next(talk)
                tokens = sum(len(tokenizer.encode(text)) for text, _ in chatml(messages))
                if tokens < 60 and length + tokens < LONG_CHAT_TOKENS_MAX and messages[0][0] == "user":
                    before += [{"role": role, "content": text} for role, text in messages]
                    length += tokens
            at = 1 if q["messages"][0]["role"] == "system" else 0
            q["messages"][at:at] = before
            out.write(json.dumps(q) + "\n")


def write_evalbin(source, path):
    tokenizer, out, skills = bpe.Tokenizer.load(), array.array("H"), {}
    with open(source) as f:
        questions = [json.loads(line) for line in f]
    for q in questions:
        skill = skills.setdefault(q["skill"], len(skills))
        messages = [(m["role"], m["content"]) for m in q["messages"]]
        prompt = tokenizer.encode("".join(text for text, _ in chatml(messages, open_answer=True)))
        out.extend([skill, len(prompt), *prompt, len(q["expect"])])
        for answer in q["expect"]:
            ids = tokenizer.encode(answer)
            out.extend([len(ids), *ids])
    with open(path, "wb") as f:
        out.tofile(f)
    with open(path + ".skills", "w") as f:
        f.write("".join(s + "\n" for s in skills))


def check(count):
    """What was asked (keys) and how (wording) in eval.jsonl must not occur in any turn of the training text."""
    questions = examination(EVAL_QUESTIONS, EVAL_SEED)
    with open(os.path.join(HERE, "eval.jsonl")) as f:
        assert [json.loads(line) for line in f] == [q for q, _ in questions], "eval.jsonl is not what `eval` writes"
    keys = {key for _, key in questions}
    wordings = {wording(q["messages"][-1]["content"]) for q, _ in questions if len(q["messages"]) == 1}
    asked = 0
    for messages, trained in itertools.chain(training_dialogues(count),
                                             training_dialogues(count, FINISH_SEED, SKILLS_FINISH)):
        assert keys.isdisjoint(trained), f"examined content in the training text: {messages}"
        for role, text in messages:
            assert role != "user" or wording(text) not in wordings, f"examined wording in the training text: {text}"
            asked += role == "user"
    print(f"{asked} training questions: none has the content or the wording of the {len(questions)} examined ones")


def show():
    rng = random.Random()
    for messages, _ in training_dialogues(60, rng.random()):
        print("   ".join(f"[{role}] {text!r}" for role, text in messages))


def main():
    command, arguments = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]
    if command == "tokenizer":
        bpe.train("".join(t for t, _ in chatml(m)) for m, _ in training_dialogues(60000)).save()
    elif command == "train":
        write_train(training_dialogues(int(arguments[0])), arguments[1])
    elif command == "finish":
        write_train(training_dialogues(int(arguments[0]), FINISH_SEED, SKILLS_FINISH), arguments[1])
    elif command == "eval":
        write_examination(os.path.join(HERE, "eval.jsonl"), EVAL_QUESTIONS, EVAL_SEED)
    elif command == "dev":
        write_examination(arguments[0], DEV_QUESTIONS, DEV_SEED)
    elif command == "long":
        write_long(*arguments)
    elif command == "evalbin":
        write_evalbin(*arguments)
    elif command == "check":
        check(int(arguments[0]))
    elif command == "show":
        show()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
