"""Trains the model that fastapi_app.py serves, with the rows and parameters of Canopy's predictor.

Usage: prepare_model.py TRAIN.csv MODEL.joblib
"""

import sys

import joblib
import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main():
    table = numpy.loadtxt(sys.argv[1], delimiter=",", skiprows=1)
    x, _, y, _ = train_test_split(table[:, :-1], table[:, -1].astype(int), test_size=0.2, random_state=42)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=100, random_state=42, n_jobs=1))
    joblib.dump(model.fit(x, y), sys.argv[2])


main()
