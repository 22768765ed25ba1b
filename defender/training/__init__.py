"""Training the defender: a warm-up of the towers, stage 1, stage 2, or both stages at once.

schedule     how long, how fast, and which samples a step sees: pure functions of (seed, step)
objectives   what each stage minimizes, as means over things that are counted
heads        helpers that are thrown away after the training
adapters     which parameters are trained: all, or the paper's low-rank adapters and full parts
engine       processes and devices: accelerate, and what a device wants of the network
loop         the one loop: one process or many, and exact resume
state        what a resume needs, on disk
reporting    log file, lines, progress bar, tracker
stages       a stage = an objective run through the loop
settings     a training as a TOML file
network      `legion train network`: people's own data in, a checkpoint out
"""
