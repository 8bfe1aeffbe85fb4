"""The generated parts of the documentation: settings, contract, metrics, log events and commands.

A page in ``docs/`` contains marks, and the text between them is generated from the code:

    <!-- generated: NAME -->
    <!-- end: NAME -->

Belongs here: a module for each page, which returns its parts as Markdown. All other text belongs in the pages.
"""
