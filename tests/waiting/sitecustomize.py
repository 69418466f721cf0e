"""With this folder on PYTHONPATH, a training by main.py waits after the first batch of epoch 2 to be ended there."""

import sys

if "main.py" in sys.orig_argv and "resume" not in sys.orig_argv:
    import time

    from ignite.engine import Engine, Events

    import engine.build

    create = engine.build.create_trainer

    def wait(trainer: Engine) -> None:
        if trainer.state.epoch == 2:
            print("waiting", flush=True)
            time.sleep(600)

    def waiting(*given) -> Engine:
        trainer = create(*given)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, wait)
        return trainer

    engine.build.create_trainer = waiting
