"""The same model behind FastAPI, as its documentation would have it; the environment's MODEL is the file.

Kept as cheap as it can be without leaving the libraries: the forest is asked once for probabilities, the class is
the largest of them, and the handler is a coroutine, which spares the hop to a thread that the interpreter's lock
would not let run beside this one anyway.
"""

import os
from typing import Annotated

import joblib
from fastapi import FastAPI
from pydantic import BaseModel, Field, FiniteFloat

model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Request(BaseModel):
    features: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class Answer(BaseModel):
    prediction: int
    confidence: float


@app.post("/predict")
async def predict(request: Request) -> Answer:
    shares = model.predict_proba([request.features])[0]
    best = int(shares.argmax())
    return Answer(prediction=best, confidence=float(shares[best]))
