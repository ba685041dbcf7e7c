# SPDX-License-Identifier: Apache-2.0
# Training of autoencoders and reconstruction.


size_of_train_autoencoder = jobs.sized("train_autoencoder", jobs.training)


rule train_autoencoder:
    input:
        start=jobs.start,
    output:
        config=layout.rule(layout.AUTOENCODER, layout.CONFIG),
        weights=layout.rule(layout.AUTOENCODER, layout.AUTOENCODER_WEIGHTS),
    log:
        layout.rule(layout.TRAINING_LOG),
    resources:
        gpu=size_of_train_autoencoder("gpu"),
        cpus_per_task=size_of_train_autoencoder("cpus_per_task"),
        mem_mb=size_of_train_autoencoder("mem_mb"),
        runtime=size_of_train_autoencoder("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        start=folder_option("--start", "start"),
        folder=layout.rule(layout.AUTOENCODER),
        state=layout.rule(layout.AUTOENCODER_STATE),
        configuration=jobs.configuration(steps.TRAIN_AUTOENCODER, jobs.training),
        # A changed dataset entry makes the job look at its images, by which it knows if it has to train.
        data=lambda wildcards: configuration.training_data(jobs.training(wildcards)),
        images=jobs.images(jobs.training_images),
        attempts=layout.rule(layout.TRAINING_ATTEMPTS),  # Snakemake removes the log of the attempt before
        version=steps.TRAIN_AUTOENCODER.version,
    message:
        "training {wildcards.autoencoder}, phase {wildcards.phase}"
    shell:
        "{params.launch} train autoencoder {params.file:q} --autoencoder {wildcards.autoencoder} --phase {wildcards.phase}"
        " {params.start} --output {params.folder} --state {params.state} --configuration {params.configuration}"
        " ${{SLURM_JOB_ID:+--time-limit {resources.runtime}}} 2>&1 | tee -ia {log} {params.attempts}"


size_of_reference_features = jobs.sized("reference_features", jobs.reference)


rule reference_features:
    output:
        layout.rule(layout.REFERENCE),
    log:
        layout.rule(layout.REFERENCE_LOG),
    resources:
        gpu=size_of_reference_features("gpu"),
        cpus_per_task=size_of_reference_features("cpus_per_task"),
        mem_mb=size_of_reference_features("mem_mb"),
        runtime=size_of_reference_features("runtime"),
    params:
        file=jobs.path,
        configuration=jobs.configuration(steps.REFERENCE, jobs.reference),
        images=jobs.images(jobs.reference_images),
        version=steps.REFERENCE.version,
    message:
        "reference features of {wildcards.dataset} at {wildcards.resolution} px for {wildcards.purpose}"
    shell:
        "dcae reference {params.file:q} --purpose {wildcards.purpose} --dataset {wildcards.dataset}"
        " --resolution {wildcards.resolution} --output {output} --configuration {params.configuration}"
        " 2>&1 | tee -i {log}"


size_of_evaluate_reconstruction = jobs.sized("evaluate_reconstruction", jobs.cell)


rule evaluate_reconstruction:
    input:
        weights=jobs.weights,
        reference=layout.rule(layout.REFERENCE).replace("{purpose}", "reconstruction"),
    output:
        record=layout.rule(layout.RECONSTRUCTION_RECORD),
        images=layout.rule(layout.RECONSTRUCTION_SAMPLES),
        rows=layout.rule(layout.PER_IMAGE),
    log:
        layout.rule(layout.RECONSTRUCTION_LOG),
    resources:
        gpu=size_of_evaluate_reconstruction("gpu"),
        cpus_per_task=size_of_evaluate_reconstruction("cpus_per_task"),
        mem_mb=size_of_evaluate_reconstruction("mem_mb"),
        runtime=size_of_evaluate_reconstruction("runtime"),
    params:
        file=jobs.path,
        launch=jobs.launcher,
        weights=folder_option("--weights", "weights"),
        state=layout.rule(layout.EVALUATION_STATE),
        configuration=jobs.configuration(steps.EVALUATE, jobs.cell),
        images=jobs.images(jobs.reconstructed_images),
        version=steps.EVALUATE.version,
    message:
        "reconstruction of {wildcards.dataset} at {wildcards.resolution} px by {wildcards.autoencoder}"
    shell:
        "{params.launch} evaluate {params.file:q} --autoencoder {wildcards.autoencoder} {params.weights}"
        " --dataset {wildcards.dataset} --resolution {wildcards.resolution} --reference {input.reference}"
        " --record {output.record} --images {output.images} --rows {output.rows} --state {params.state}"
        " --configuration {params.configuration} 2>&1 | tee -i {log}"
