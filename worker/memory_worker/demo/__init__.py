"""The demo: an app writes real sentences while Qdrant and the worker are killed, and at the end every point is checked.

    dataset     the sentences, their vectors, and questions
    requests    what the app asks for, in order
    app         pushes the requests, one by one
    processes   Redis, Qdrant and the worker, as processes that can be killed
    story       what happens when
    answers     the questions, and what searches find
    verdict     compares all of Qdrant with the requests
    screen      how it looks

Here: the demo, and its data. Not here: anything that a real deployment uses.
"""
